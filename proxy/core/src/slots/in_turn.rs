//! What belongs to a connection, which goes on in its source's turn as long as nothing was proven on it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::place::{Place, Slot, Source};
use crate::gate::{Gate, Turn, Wait};

impl Slot {
    /// Runs what belongs to the connection, unless and until it must be closed.
    pub async fn within(&self, connection: impl Future<Output = ()>) {
        self.until_shed(InTurn::new(connection, &self.place, None))
            .await;
    }

    /// The same. `first` is the turn in which the connection is looked at; while it is a stranger's it waits
    /// for another one whenever it is to go on.
    pub async fn within_turns(
        &self,
        first: Turn<Source>,
        gate: &Gate<Source>,
        connection: impl Future<Output = ()>,
    ) {
        let wait = Wait::with_first(gate, self.place.source, first);
        self.until_shed(InTurn::new(connection, &self.place, Some(wait)))
            .await;
    }

    async fn until_shed(&self, connection: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            _ = self.shed() => {}
            () = connection => {}
        }
    }
}

pin_project! {
    pub(super) struct InTurn<'p, C> {
        #[pin]
        connection: C,
        place: &'p Place,
        wait: Option<Wait<'p, Source>>,
    }
}

impl<'p, C> InTurn<'p, C> {
    /// Without `wait` it waits for nobody.
    pub(super) fn new(connection: C, place: &'p Place, wait: Option<Wait<'p, Source>>) -> Self {
        Self {
            connection,
            place,
            wait,
        }
    }
}

impl<C: Future> Future for InTurn<'_, C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        if this.place.is_proven() {
            if let Some(wait) = this.wait {
                wait.stop();
            }
            return this.connection.poll(context);
        }
        let turn = match this.wait.as_mut().map(|wait| wait.poll_turn(context)) {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(turn)) => Some(turn),
            None => None,
        };
        let polled = this.connection.poll(context);
        this.place.looked_at();
        drop(turn);
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        net::{IpAddr, Ipv4Addr},
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use countersign_types::ResourceName;

    use super::*;
    use crate::slots::{Bounds, Share, Slots};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn stranger() -> (Slot, Gate<Source>) {
        let bounds = Bounds {
            identified: 9,
            strangers: 9,
            per_source: 9,
        };
        let slots = Slots::new(bounds, None);
        (slots.enter(&"proxy".into(), CLIENT), Gate::new(1))
    }

    /// A task's waker, and whether it was woken.
    #[derive(Default)]
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Task {
        fn is_woken(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        fn poll(self: &Arc<Self>, served: &mut Pin<&mut impl Future<Output = ()>>) {
            let waker = Waker::from(Arc::clone(self));
            let polled = served.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
    }

    /// Counts how often the connection went on.
    async fn counted(times: &AtomicUsize) {
        poll_fn::<(), _>(|_| {
            times.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn the_first_turn_is_given_back_with_the_first_look() {
        let (slot, gate) = stranger();
        let first = gate.take().expect("a turn");
        let times = AtomicUsize::new(0);
        let mut served = pin!(slot.within_turns(first, &gate, counted(&times)));
        let task = Arc::new(Task::default());
        assert!(gate.take().is_none());
        task.poll(&mut served);
        assert_eq!(times.load(Ordering::Relaxed), 1);
        assert!(gate.take().is_some());
    }

    #[test]
    fn a_stranger_goes_on_when_it_is_given_a_turn() {
        let (slot, gate) = stranger();
        let first = gate.take().expect("a turn");
        let times = AtomicUsize::new(0);
        let mut served = pin!(slot.within_turns(first, &gate, counted(&times)));
        let task = Arc::new(Task::default());
        task.poll(&mut served);
        let other = gate.take();
        assert!(other.is_some());
        task.poll(&mut served);
        task.poll(&mut served);
        assert_eq!(
            times.load(Ordering::Relaxed),
            1,
            "it waits, however often it is woken"
        );
        assert!(!task.is_woken());
        drop(other);
        assert!(task.is_woken());
        task.poll(&mut served);
        assert_eq!(times.load(Ordering::Relaxed), 2);
        assert!(gate.take().is_some(), "and gives it back");
    }

    #[test]
    fn who_was_proven_waits_for_nobody() {
        let (slot, gate) = stranger();
        let first = gate.take().expect("a turn");
        let times = AtomicUsize::new(0);
        let mut served = pin!(slot.within_turns(first, &gate, counted(&times)));
        let task = Arc::new(Task::default());
        task.poll(&mut served);
        let workload = ResourceName::cluster_wide("nightly");
        assert_eq!(slot.prove(|| Share::Workload(workload)), Ok(()));
        let other = gate.take();
        assert!(other.is_some());
        task.poll(&mut served);
        assert_eq!(times.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_leaves_while_it_waits_leaves_its_turn_to_others() {
        let (slot, gate) = stranger();
        let first = gate.take().expect("a turn");
        let times = AtomicUsize::new(0);
        let task = Arc::new(Task::default());
        let mut served = Box::pin(slot.within_turns(first, &gate, counted(&times)));
        task.poll(&mut served.as_mut());
        let other = gate.take();
        task.poll(&mut served.as_mut());
        drop((served, other));
        assert!(gate.take().is_some());
    }
}
