//! `stkr verify-deployment`.

use serde_json::json;
use stkr_sdk::verify_deployment;

use crate::{context::Context, failure::Failure, output::table};

pub(crate) async fn run(context: &Context<'_>) -> Result<(), Failure> {
    let deployment = context.deployment()?;
    let provider = context.provider().await?;
    let checks = verify_deployment(&provider, &deployment).await?;
    let failed: Vec<&str> = checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
    let answer = json!({ "ok": failed.is_empty(), "chainId": deployment.chain_id, "checks": checks });
    context.output.show(&answer, |_| {
        let rows: Vec<Vec<String>> = checks
            .iter()
            .map(|check| {
                let mark = if check.ok { "ok" } else { "DIFFERS" };
                vec![mark.to_owned(), check.name.clone(), check.address.to_string(), check.finding.clone()]
            })
            .collect();
        table(&["", "WHAT", "WHERE", "FOUND"], &rows)
    });
    if failed.is_empty() {
        return Ok(());
    }
    let message = format!("the deployment is not what this build has: {}", failed.join(", "));
    Err(Failure::not_safe(message, "do not send anything to it; use the program of the release that was deployed"))
}
