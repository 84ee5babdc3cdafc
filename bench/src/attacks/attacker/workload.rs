//! What a workload does that is permitted what the honest ones are.

use super::{Plan, side_by_side};
use crate::{
    client::{Protocol, Route},
    upstream::drain,
};

/// Asks for a path at which the API refuses every credential.
pub(super) async fn rejections(plan: &'static Plan) {
    ask(plan, 16, "/rejected").await;
}

/// Asks for what is permitted.
pub(super) async fn flood(plan: &'static Plan) {
    ask(plan, 64, "/small").await;
}

async fn ask(plan: &'static Plan, at_a_time: usize, path: &'static str) {
    let Some(route) = route(plan) else { return };
    side_by_side(plan, at_a_time, |_| {
        let route = route.clone();
        async move {
            while !plan.is_over() {
                let Ok(mut connection) = route.open(Protocol::H1).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                while let Ok(response) = connection.ask(path).await {
                    if drain(response.into_body()).await.is_err() {
                        break;
                    }
                }
            }
        }
    })
    .await;
}

/// Asks for large answers and takes nothing of them.
pub(super) async fn stalls(plan: &'static Plan) {
    let Some(route) = route(plan) else { return };
    side_by_side(plan, 600, |_| {
        let route = route.clone();
        async move {
            while !plan.is_over() {
                let mut held = Vec::new();
                if let Ok(mut connection) = route.open(Protocol::H1).await
                    && let Ok(response) = connection.ask("/download/1000000000").await
                {
                    held.push((connection, response));
                    tokio::time::sleep_until(plan.until).await;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

fn route(plan: &Plan) -> Option<Route> {
    let roots = plan.directory.join("ca").join("root.pem");
    Route::gateway(plan.proxy, &roots, &plan.token).ok()
}
