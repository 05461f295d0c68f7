//! Contracts of attackers, compiled by the pinned compiler and really deployed.

use crate::process::workspace_root;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, Bytes};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use eyre::{Context, Result, ensure, eyre};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// Creation code of the contract `name` in `tests/e2e/contracts/NAME.sol`, which imports nothing.
pub fn compile(name: &str) -> Result<Bytes> {
    let root = workspace_root();
    let file = format!("{name}.sol");
    let source = std::fs::read_to_string(root.join("tests/e2e/contracts").join(&file)).wrap_err("its source")?;
    let input = json!({
        "language": "Solidity",
        "sources": { &file: { "content": source } },
        "settings": { "evmVersion": "osaka", "outputSelection": { "*": { "*": ["evm.bytecode.object"] } } },
    });
    let mut child = Command::new(root.join("script/solc"))
        .arg("--standard-json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .wrap_err("start script/solc; is Node installed?")?;
    child.stdin.take().ok_or_else(|| eyre!("no stdin"))?.write_all(input.to_string().as_bytes())?;
    let output: Value = serde_json::from_slice(&child.wait_with_output()?.stdout).wrap_err("what solc printed")?;
    let code = output["contracts"][&file][name]["evm"]["bytecode"]["object"].as_str();
    let code = code.ok_or_else(|| eyre!("{file} does not compile: {}", output["errors"]))?;
    Ok(hex::decode(code)?.into())
}

/// Deploys creation code without constructor arguments; `provider` signs.
pub async fn create(provider: &impl Provider, code: Bytes) -> Result<Address> {
    let request = TransactionRequest::default().with_deploy_code(code);
    let receipt = provider.send_transaction(request).await?.get_receipt().await?;
    ensure!(receipt.status(), "the contract was not deployed");
    receipt.contract_address.ok_or_else(|| eyre!("the receipt names no contract"))
}
