//! What the gateway adds when nothing else happens.
//!
//! In turns, one request at a time: through the gateway, and straight to all four servers as the gateway would send it.
//! The time of the third answer is what the slowest of the t servers took.

use crate::network::World;
use crate::{plan, play};
use eyre::{Result, bail};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::time::{Duration, Instant};
use stkr_duties::SigningRequest;
use stkr_protocol::api::SignBatch;
use stkr_protocol::sign::{Asked, SignResponse};

/// Between two requests, so that each finds idle processes, and servers their rate limits untouched.
const PAUSE: Duration = Duration::from_millis(40);

/// Milliseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Light {
    pub(crate) gateway: play::Latency,
    /// The t-th of n direct answers.
    pub(crate) servers: play::Latency,
    /// Difference of the medians.
    pub(crate) added: f64,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Both {
    /// `AGGREGATION_SLOT`: no slashing protection on either side.
    pub(crate) without_history: Light,
    /// `ATTESTATION`: an fsync at the gateway, then one at each server.
    pub(crate) attestation: Light,
}

pub(crate) async fn measure(world: &World, count: u32) -> Result<Both> {
    let epoch = world.epoch_now()?;
    let slot = |number: u32| serde_json::json!({"slot": (epoch * 32 + u64::from(number % 32)).to_string()});
    let vote = |_| plan::vote(epoch * 32, epoch);
    Ok(Both {
        without_history: one(world, count, "AGGREGATION_SLOT", slot).await?,
        attestation: one(world, count, "ATTESTATION", vote).await?,
    })
}

async fn one(world: &World, count: u32, kind: &str, payload: impl Fn(u32) -> serde_json::Value) -> Result<Light> {
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for number in 0..count {
        let body = plan::request(world, kind, payload(number))?;
        let url = world.sign_url(number)?;
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        play::ask(&world.http, &url, body.clone()).await?;
        through.push(begin.elapsed());
        tokio::time::sleep(PAUSE).await;
        // Another validator: an answer that was given before would be quicker.
        direct.push(straight(world, count + number, &body).await?);
    }
    // The first ones open connections.
    let (gateway, servers) = (play::Latency::of(through.split_off(1)), play::Latency::of(direct.split_off(1)));
    Ok(Light { gateway, servers, added: gateway.p50 - servers.p50 })
}

async fn straight(world: &World, validator: u32, body: &str) -> Result<Duration> {
    let request = SigningRequest::decode(body.as_bytes(), world.schedule.preset())?;
    let place = (u64::from(validator) + 1, 1);
    let asked = Asked::duty(place, &request, &world.schedule, &world.network.domain(), &world.duty_key)?;
    let begin = Instant::now();
    let batch = SignBatch { requests: vec![asked.request().clone()] };
    let mut calls: FuturesUnordered<_> = world.clients.iter().map(|client| client.sign(&batch)).collect();
    let (mut good, mut third) = (0, Duration::ZERO);
    while let Some(replies) = calls.next().await {
        match replies?.pop() {
            Some(SignResponse::Signed(_)) => good += 1,
            other => bail!("a server refuses: {other:?}"),
        }
        if good == 3 {
            third = begin.elapsed();
        }
    }
    Ok(third)
}
