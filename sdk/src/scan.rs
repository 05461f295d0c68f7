//! Old logs, over any range, from endpoints that answer only small ranges.

use alloy::{
    providers::Provider,
    rpc::types::{Filter, Log},
};

use crate::error::{StkrError, rpc};

/// Blocks asked for at once at first. Public endpoints allow 500 to 10,000.
const STEP: u64 = 10_000;

/// All logs of `filter` in blocks `from..=to`, in order.
///
/// An endpoint that refuses a range gets half of it, down to one block; only then is its error the answer.
pub(crate) async fn logs<P: Provider>(
    provider: &P,
    filter: &Filter,
    from: u64,
    to: u64,
) -> Result<Vec<Log>, StkrError> {
    let mut found = Vec::new();
    let mut next = from;
    let mut step = STEP;
    while next <= to {
        let end = next.saturating_add(step - 1).min(to);
        match provider.get_logs(&filter.clone().from_block(next).to_block(end)).await {
            Ok(logs) => {
                found.extend(logs);
                next = end.saturating_add(1);
            }
            // A transport failure has nothing to do with the range.
            Err(error) if error.is_error_resp() && end > next => step = (step / 2).max(1),
            Err(error) => return Err(rpc("reading events")(error)),
        }
    }
    Ok(found)
}
