//! `stkr ceremony`: how keys are made, and who holds that up.

use stkr_sdk::{CeremonyInfo, CeremonyRound, StkrError};
use url::Url;

use crate::{
    args::CeremonyCommand,
    commands::preflight,
    context::Context,
    failure::Failure,
    output::{record, time},
};

pub(crate) async fn run(command: CeremonyCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        CeremonyCommand::Show { id, pool, relayer } => show(id, pool, relayer.as_ref(), context).await,
        CeremonyCommand::Preflight { servers, key } => preflight::run(&servers, key, context).await,
    }
}

async fn show(id: Option<u64>, pool: Option<u64>, relayer: Option<&Url>, context: &Context<'_>) -> Result<(), Failure> {
    let client = context.client().await?;
    let key = match (id, pool) {
        (Some(id), _) => id,
        (None, Some(pool)) => match client.pools().get(pool).await?.key_id {
            0 => return Err(StkrError::NotReady { reason: format!("pool {pool} has not asked for its key") }.into()),
            key => key,
        },
        (None, None) => return Err(Failure::usage("no key was named", "give a key id, or --pool with a pool's")),
    };
    let info = client.ceremonies().get(key, relayer).await?;
    context.output.show(&info, lines);
    Ok(())
}

fn lines(info: &CeremonyInfo) -> String {
    let moment = |at: Option<stkr_sdk::Moment>| match at {
        Some(at) => format!("{} (block {})", time(at.time), at.block),
        None => "-".to_owned(),
    };
    let members = info.committee.iter().map(|seat| {
        let out = if seat.may_take_part { "" } else { ", may not take part" };
        format!("{}: server {}{out}", seat.member, seat.server_id)
    });
    let members: Vec<String> = members.collect();
    let mut fields = vec![
        ("ceremony", format!("key {}, attempt {}, {} of {}", info.key_id, info.attempt, info.threshold, info.members)),
        ("state", info.state.name().to_owned()),
        ("why", info.why.clone()),
        ("key is", info.key_state.to_string()),
        ("began", moment(info.begun)),
        ("finalise before", info.deadline.map_or_else(|| "-".to_owned(), time)),
        ("finalised", moment(info.finalised)),
        ("members", if members.is_empty() { "-".to_owned() } else { members.join("; ") }),
    ];
    for round in &info.rounds {
        fields.push(("round", progress(round, info.members)));
        for waited in &round.waiting_for {
            let seat = &waited.seat;
            let who = format!(
                "server {} (member {}), operator {}, {}",
                seat.server_id, seat.member, seat.operator, seat.endpoint
            );
            let since = round.since.map_or_else(|| "not known".to_owned(), time);
            fields.extend([("  waits for", who), ("  since", since), ("  because", waited.why.clone())]);
            fields.extend(waited.unready.iter().map(|reason| ("  says itself", reason.clone())));
            fields.push(("  check", waited.check.clone()));
        }
    }
    record(&fields)
}

fn progress(round: &CeremonyRound, members: u8) -> String {
    let at = round.complete.map_or_else(String::new, |at| format!(", the last at {}", time(at)));
    format!("{}: {} of {members} came{at}", round.round, round.came)
}
