//! The ranges of the cluster's own addresses, which pods reach without the relay: found by what the API server says of
//! Services and nodes, where the settings have none.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::{core::v1::Node, networking::v1::ServiceCIDR};
use kube::{Api, Client, api::ListParams};

/// The most ranges that are written into pods. If there are more, wider ones stand for them.
const MOST: usize = 16;

/// The nodes of one page of a list.
const PAGE: u32 = 500;

/// The ranges of Services and of pods, the fewest that hold all of them.
///
/// # Errors
/// When the API server does not tell. That it does not know `ServiceCIDR`s (before 1.33) is no error.
pub async fn find(client: &Client) -> kube::Result<Vec<IpNet>> {
    let mut ranges = Vec::new();
    let services = Api::<ServiceCIDR>::all(client.clone());
    match services.list(&ListParams::default()).await {
        Ok(services) => {
            let specs = services.items.into_iter().filter_map(|it| it.spec);
            ranges.extend(parsed(specs.flat_map(|it| it.cidrs.unwrap_or_default())));
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    let nodes = Api::<Node>::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = nodes.list(&page).await?;
        let specs = list.items.into_iter().filter_map(|it| it.spec);
        ranges.extend(parsed(
            specs.flat_map(|it| it.pod_cidrs.unwrap_or_default()),
        ));
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => break,
        }
    }
    Ok(fewest(&ranges))
}

fn parsed(texts: impl Iterator<Item = String>) -> Vec<IpNet> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The fewest ranges that hold all; wider ones if there are too many.
fn fewest(ranges: &[IpNet]) -> Vec<IpNet> {
    let mut ranges = IpNet::aggregate(&ranges.to_vec());
    // A node's range is mostly a /24 of the /16 of all; of IPv6 a /64 of a /48.
    for (four, six) in [(20, 56), (16, 48), (12, 40), (8, 32)] {
        if ranges.len() <= MOST {
            break;
        }
        let wider = ranges.iter().map(|range| match range {
            IpNet::V4(range) => Ipv4Net::new(range.addr(), four.min(range.prefix_len()))
                .map_or(IpNet::V4(*range), |wide| IpNet::V4(wide.trunc())),
            IpNet::V6(range) => Ipv6Net::new(range.addr(), six.min(range.prefix_len()))
                .map_or(IpNet::V6(*range), |wide| IpNet::V6(wide.trunc())),
        });
        ranges = IpNet::aggregate(&wider.collect::<Vec<_>>());
    }
    ranges.truncate(MOST);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[String]) -> Vec<String> {
        let found = fewest(&parsed(texts.iter().cloned()));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn neighbours_become_one() {
        let nodes: Vec<_> = (0..=255)
            .map(|node| format!("10.244.{node}.0/24"))
            .collect();
        assert_eq!(ranges(&nodes), ["10.244.0.0/16"]);
        let both = ["10.96.0.0/12", "fd00:10:96::/112", "no range"].map(str::to_owned);
        assert_eq!(ranges(&both), ["10.96.0.0/12", "fd00:10:96::/112"]);
    }

    #[test]
    fn many_that_are_apart_are_held_by_wider_ones() {
        let nodes: Vec<_> = (0..100)
            .map(|node| format!("10.244.{}.0/24", 2 * node))
            .collect();
        let found = ranges(&nodes);
        assert!(found.len() <= MOST, "{found:?}");
        let found = parsed(found.into_iter());
        for node in parsed(nodes.into_iter()) {
            assert!(found.iter().any(|range| range.contains(&node)), "{node}");
        }
        assert!(
            !found
                .iter()
                .any(|range| range.contains(&"10.0.0.0/24".parse::<IpNet>().unwrap()))
        );
    }
}
