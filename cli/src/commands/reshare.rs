//! `stkr reshare`.

use serde::Serialize;
use serde_json::Value;
use stkr_sdk::{CarriedReshare, ReshareInfo, ReshareState, WaitedPart};

use crate::{
    args::ReshareCommand,
    commands::key::{Transcript, transcript_in},
    context::{Context, read_json},
    failure::Failure,
    output::{record, time},
};

pub(crate) async fn run(command: ReshareCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        ReshareCommand::Show { key, relayer } => {
            let client = context.client().await?;
            let info = client.reshares().get(key).await?;
            let carried = match &relayer {
                Some(relayer) => client.reshares().carried(key, relayer).await?,
                None => None,
            };
            context.output.show(&Shown { info, carried }, show);
            Ok(())
        }
        ReshareCommand::Request { key, signing } => {
            let client = context.client().await?;
            let write = client.reshares().request(key).await?;
            context.perform(write, &signing, &format!("asked for a reshare of key {key}"), nothing).await
        }
        ReshareCommand::Draw { key, signing } => {
            let client = context.client().await?;
            let write = client.reshares().draw(key).await?;
            context.perform(write, &signing, &format!("drew the next committee of key {key}"), nothing).await
        }
        ReshareCommand::Restart { key, signing } => {
            let client = context.client().await?;
            let write = client.reshares().restart(key).await?;
            context.perform(write, &signing, &format!("started the reshare of key {key} again"), nothing).await
        }
        ReshareCommand::Cancel { key, signing } => {
            let client = context.client().await?;
            let write = client.reshares().cancel(key).await?;
            context.perform(write, &signing, &format!("ended the reshare of key {key}"), nothing).await
        }
        ReshareCommand::Finalise { key, transcript, signing } => {
            let Transcript { share_keys, group_key, dealings_digest, acknowledgements } = transcript_in(&transcript)?;
            let client = context.client().await?;
            let write =
                client.reshares().finalise(key, &share_keys, &group_key, dealings_digest, &acknowledgements).await?;
            context.perform(write, &signing, &format!("key {key} has its next committee"), nothing).await
        }
        ReshareCommand::Vote { key, votes, signing } => {
            let hint = "give what `stkr-server vote-silent` printed";
            let votes =
                votes.iter().map(|path| read_json(path, "a vote", hint)).collect::<Result<Vec<_>, Failure>>()?;
            let client = context.client().await?;
            let write = client.reshares().vote_silent(key, &votes).await?;
            context.perform(write, &signing, "the server counts as lost", nothing).await
        }
        ReshareCommand::FreeSeats { key, epoch, signing } => {
            let client = context.client().await?;
            let write = client.reshares().free_past_seats(key, epoch).await?;
            let done = format!("freed the seats that committee {epoch} of key {key} left behind");
            context.perform(write, &signing, &done, nothing).await
        }
    }
}

fn nothing((): ()) -> Value {
    Value::Null
}

/// What the chain says, and what a relayer carried.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    info: ReshareInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<CarriedReshare>,
}

fn show(shown: &Shown) -> String {
    let it = &shown.info;
    let list = |ids: &[u32]| ids.iter().map(|id| seat(*id)).collect::<Vec<_>>().join(", ");
    let mut rows = vec![
        ("key", it.key_id.to_string()),
        ("newest committee", it.committee_epoch.to_string()),
        ("members", list(&it.committee)),
        ("signs from", if it.handover == 0 { "the key's first day".into() } else { time(it.handover) }),
        ("serving now", it.serving_epoch.to_string()),
        ("reshare", it.state.to_string()),
    ];
    if let Some(next) = &it.next {
        let dealers: Vec<String> = next.dealers.iter().map(ToString::to_string).collect();
        rows.push(("next shares", format!("{} of {}", next.threshold, next.seats.len())));
        rows.push(("attempt", next.attempt.to_string()));
        rows.push(("seats", list(&next.seats)));
        let drawn = it.state == ReshareState::Drawn;
        rows.push((if drawn { "dealers" } else { "dealers among" }, dealers.join(", ")));
        rows.push(match drawn {
            true => ("finalise before", time(next.mark)),
            false => ("seed block", next.mark.to_string()),
        });
        if drawn {
            rows.push(("would sign from", time(next.handover)));
        }
    }
    rows.extend(shown.carried.iter().flat_map(carried_rows));
    record(&rows)
}

fn carried_rows(carried: &CarriedReshare) -> Vec<(&'static str, String)> {
    let mut rows = vec![("carried by", carried.relayer.clone())];
    rows.extend(carried.begun.map(|begun| ("drawn", time(begun))));
    rows.extend(carried.fault.iter().map(|fault| ("fault", fault.clone())));
    if carried.rounds.is_empty() {
        rows.push(("messages", "this relayer has none of it; ask another".to_owned()));
    }
    for round in &carried.rounds {
        let at = round.complete.map_or_else(String::new, |at| format!(", the last at {}", time(at)));
        rows.push(("round", format!("{}: {} of {} came{at}", round.round, round.came, round.of)));
        for WaitedPart { role, waited } in &round.waiting_for {
            let seat = &waited.seat;
            let committee = if *role == "dealer" { "old" } else { "new" };
            let who = format!(
                "server {} ({committee} member {}), operator {}, {}",
                seat.server_id, seat.member, seat.operator, seat.endpoint
            );
            let since = round.since.map_or_else(|| "not known".to_owned(), time);
            rows.extend([("  waits for", who), ("  since", since), ("  because", waited.why.clone())]);
            rows.extend(waited.unready.iter().map(|reason| ("  says itself", reason.clone())));
            rows.push(("  check", waited.check.clone()));
        }
    }
    rows
}

fn seat(id: u32) -> String {
    if id == 0 { "to be drawn".to_owned() } else { id.to_string() }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use stkr_sdk::{NextCommittee, ReshareRound, Seat, Waited};

    use super::*;

    #[test]
    fn a_seat_without_a_server_is_still_to_be_drawn() {
        let next = NextCommittee {
            threshold: 3,
            attempt: 1,
            seats: vec![4, 0, 6, 7],
            dealers: vec![1, 3, 4],
            mark: 900,
            handover: 0,
        };
        let info = ReshareInfo {
            key_id: 9,
            committee_epoch: 0,
            serving_epoch: 0,
            handover: 0,
            threshold: 3,
            committee: vec![4, 5, 6, 7],
            state: ReshareState::Requested,
            next: Some(next),
        };
        let text = show(&Shown { info: info.clone(), carried: None });
        for part in ["4, to be drawn, 6, 7", "dealers among", "1, 3, 4", "seed block", "900", "3 of 4"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // What a relayer carries says who is waited for, of which committee, in which round, since when, and what to check.
        let seat = Seat {
            member: 2,
            server_id: 5,
            operator: Address::ZERO,
            endpoint: "https://h:1".to_owned(),
            may_take_part: true,
        };
        let (trouble, unready) = (Some("refused".to_owned()), vec!["clock: 9 s".to_owned()]);
        let waited =
            Waited { seat, trouble, why: "refuses the connection".to_owned(), check: "is it up".to_owned(), unready };
        let round = ReshareRound {
            round: "reshare_dealing",
            since: Some(1_772_366_399),
            complete: None,
            came: 2,
            of: 3,
            waiting_for: vec![WaitedPart { role: "dealer", waited }],
        };
        let carried = CarriedReshare {
            committee_epoch: 1,
            attempt: 1,
            relayer: "relayer:1".to_owned(),
            begun: Some(1_772_366_000),
            fault: None,
            rounds: vec![round],
        };
        let text = show(&Shown { info, carried: Some(carried) });
        for part in [
            "reshare_dealing: 2 of 3 came",
            "server 5 (old member 2), operator",
            "2026-03-01",
            "refuses the connection",
            "clock: 9 s",
            "is it up",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
