//! Servers that are down: one costs nothing, two stop the key until one is back, and nobody has to guess who.

use eyre::Result;
use stkr_chain::bindings::Micropools;
use stkr_e2e::{Network, Options};

/// Opens and fills a pool and waits until its key is live; returns pool and committee positions.
async fn live_key(network: &Network) -> Result<(u64, Vec<usize>)> {
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let (_, finalised) = network.live_key(pool).await?;
    let committee = finalised.committee.iter().map(|id| network.position_of(*id)).collect::<Result<_>>()?;
    Ok((pool, committee))
}

#[tokio::test]
async fn one_server_down_goes_on_and_two_down_waits_names_them_and_finishes_when_one_returns() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) }).await?;

    let (pool, committee) = live_key(&network).await?;
    network.kill_server(committee[0]);
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    network.start_server(committee[0])?;

    let (pool, committee) = live_key(&network).await?;
    let down = [committee[1], committee[3]];
    for position in down {
        network.kill_server(position);
    }
    // Exactly these two, each with its seat and with the reason, and nobody who is up.
    let mut expected: Vec<(String, String)> = Vec::new();
    for (index, position) in (1..).zip(&committee).filter(|(_, position)| down.contains(position)) {
        let server = &network.servers[*position];
        let host = server.endpoint.trim_start_matches("https://");
        let reason = format!("{host} refuses the connection: the server is down or its registered endpoint is stale");
        expected.push((server.id.to_string(), format!("server {} (member {index}): {reason}", server.id)));
    }
    let lines: Vec<String> = expected.iter().map(|(_, line)| line.clone()).collect();
    network
        .until("the deposit waits for exactly the two servers that are down, and says why", || async {
            let status = network.relayer_json(0, "/status").await?;
            let collections = status["collections"].as_array().cloned().unwrap_or_default();
            let ours = collections.iter().find(|collection| collection["poolId"].as_str() == Some(&pool.to_string()));
            Ok(ours.is_some_and(|ours| ours["waitingFor"] == serde_json::json!(lines) && ours["needed"] == "1"))
        })
        .await?;
    network
        .until("the list of servers shows exactly these two as unreachable", || async {
            let status = network.relayer_json(0, "/status").await?;
            let servers = status["servers"].as_array().cloned().unwrap_or_default();
            assert_eq!(servers.len(), 4);
            let mut unreachable: Vec<_> = servers.iter().filter(|server| server["reachable"] == false).collect();
            unreachable.sort_by_key(|server| expected.iter().position(|(id, _)| server["serverId"] == *id));
            let reasons = |server: &serde_json::Value| server["problem"].as_str().unwrap_or_default().to_owned();
            Ok(unreachable.len() == expected.len()
                && unreachable
                    .iter()
                    .zip(&expected)
                    .all(|(server, (id, line))| server["serverId"] == *id && line.ends_with(&reasons(server))))
        })
        .await?;
    let sent = network.events_now::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    assert!(sent.is_empty(), "a deposit went out with two of four servers");

    network.start_server(down[1])?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    Ok(())
}
