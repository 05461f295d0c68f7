//! `stkr watch`.

use serde_json::json;
use stkr_sdk::{Class, Start, Update};

use crate::{context::Context, failure::Failure};

pub(crate) async fn run(from: &str, once: bool, context: &Context<'_>) -> Result<(), Failure> {
    let start = match from {
        "deployment" => Start::Deployment,
        "now" => Start::Now,
        cursor => Start::After(cursor.parse()?),
    };
    let client = context.client().await?;
    let last = if once { Some(client.head().await?.block.number) } else { None };
    let mut watch = client.watch(start);
    loop {
        match watch.next().await {
            Ok(update) => {
                tell(&update, context);
                if let (Update::Checkpoint(cursor), Some(last)) = (&update, last)
                    && cursor.block.number >= last
                {
                    return Ok(());
                }
            }
            // What passes is waited for, what does not ends the command.
            Err(error) if !once && error.class() == Class::Unavailable => {
                context.output.remark(&format!("{error}; trying again"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn tell(update: &Update, context: &Context<'_>) {
    match update {
        Update::Added(event) => {
            context.output.line(&json!({"update": "added", "event": event.plain()}), || format!("+ {event}"));
        }
        Update::Removed(event) => {
            context.output.line(&json!({"update": "removed", "event": event.plain()}), || format!("- {event}"));
        }
        Update::Rewound { to } => {
            let sentence = || format!("< everything after block {to} is void and is told again");
            context.output.line(&json!({"update": "rewound", "to": to.to_string()}), sentence);
        }
        Update::Checkpoint(cursor) => {
            context
                .output
                .line(&json!({"update": "checkpoint", "cursor": cursor.to_string()}), || format!("= {cursor}"));
        }
    }
}
