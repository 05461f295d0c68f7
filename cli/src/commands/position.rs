//! `stkr position`.

use stkr_sdk::{Position, amount};

use crate::{args::PositionCommand, context::Context, failure::Failure, output::table};

pub(crate) async fn run(command: PositionCommand, context: &Context<'_>) -> Result<(), Failure> {
    let PositionCommand::List { account } = command;
    let positions = context.client().await?.positions().of(account).await?;
    context.output.show(&positions, |positions| list(positions));
    Ok(())
}

fn list(positions: &[Position]) -> String {
    let rows: Vec<Vec<String>> = positions
        .iter()
        .map(|position| vec![position.pool_id.to_string(), amount::with_unit(position.amount)])
        .collect();
    table(&["POOL", "AMOUNT"], &rows)
}
