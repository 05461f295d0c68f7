//! `stkr evidence`: files that prove a fault.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use stkr_chain::court::{self, COMMITMENT_BLOCKS, duty_words};
use stkr_node::exit::Exit;
use stkr_protocol::{
    ProtocolDomain,
    evidence::{Accused, Asked, EvidenceFile, Proof, SignedDealing, SignedDutyRequest, SignedEnvelope, Verified},
    kept::{Kept, MAX_PAGE},
    recover_signer,
};
use stkr_sdk::{Judgement, Report, ReportOptions, amount, moment};

use crate::{
    args::EvidenceCommand,
    context::{Client, Context, no_signer, read_bytes},
    failure::Failure,
    output::{Output, record, table},
};

const HINT: &str = "stkr-relayer and its /v1/evidence give such files; they are not written by hand";
const NO_FILE: &str = "give the path of a file that a relayer's /v1/evidence or `stkr evidence find` gave";

/// What needs neither endpoint nor deployment file: true if the command is done.
pub(crate) fn offline(command: &EvidenceCommand, output: &Output) -> Result<bool, Failure> {
    match command {
        EvidenceCommand::Show { file } => show(&read(file)?, output),
        EvidenceCommand::List { folder } => list(folder, output)?,
        _ => return Ok(false),
    }
    Ok(true)
}

pub(crate) async fn run(command: EvidenceCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        EvidenceCommand::Show { .. } | EvidenceCommand::List { .. } => Ok(()),
        EvidenceCommand::Verify { file, offline: true } => {
            let file = read(&file)?;
            let deployment = context.known_deployment()?;
            if let Some(deployment) = &deployment {
                let hint = "use the deployment file of the evidence's chain";
                let ours = file.is_for(&deployment.protocol_domain(), deployment.court);
                ours.map_err(|error| Failure::usage(error.to_string(), hint))?;
            }
            let verified = verified(&file)?;
            let undecided = file.is_undecided(&verified);
            context.output.show(&judged_as(&file, answer(&verified, None, false), deployment.is_some()), |_| {
                sentence(&verified, undecided, false)
                    + &deployment.as_ref().map_or_else(|| believed(&file), |_| String::new())
            });
            if undecided { Err(only_the_chain_knows(&verified)) } else { Ok(()) }
        }
        EvidenceCommand::Verify { file, .. } => {
            let file = read(&file)?;
            let client = context.client().await?;
            let checked = client.faults().check(&file).await?;
            let on_record = client.faults().on_record(&checked.verified).await?;
            let mut answer = judged_as(&file, answer(&checked.verified, checked.server_id, true), true);
            if let Value::Object(fields) = &mut answer {
                fields.insert("onRecord".into(), json!(on_record));
            }
            context.output.show(&answer, |_| {
                let known =
                    on_record.map_or(String::new(), |it| format!("\nit is on record: transaction {}", it.transaction));
                sentence(&checked.verified, false, true) + &known
            });
            Ok(())
        }
        EvidenceCommand::Find { pages, out } => find(&pages, &out, context).await,
        EvidenceCommand::Commit { file, reporter, signing } => {
            let file = read(&file)?;
            let nobody = || {
                let hint = "give --reporter ACCOUNT: the one from which the proof will be sent";
                Failure::usage("a commitment is one account's, and none was given", hint)
            };
            let reporter = match reporter {
                Some(reporter) => reporter,
                None => context.known_sender(&signing)?.ok_or_else(nobody)?,
            };
            let client = context.client_for(&signing).await?;
            if context.asks_a_chain(&signing) {
                must_be_news(&client, &file).await?;
            }
            let write = client.faults().commit(&file, reporter)?;
            let done = format!(
                "{reporter} committed to the evidence; prove it {COMMITMENT_BLOCKS} blocks later or at any time after that"
            );
            context.perform(write, &signing, &done, |()| Value::Null).await
        }
        EvidenceCommand::Prove { file, signing } => {
            let file = read(&file)?;
            let client = context.client_for(&signing).await?;
            let write = client.faults().prove(&file)?;
            context.perform(write, &signing, "the Court upheld the fault", |judgement| json!(judgement)).await
        }
        EvidenceCommand::Submit { file, no_wait, signing } => {
            if signing.unsigned || signing.dry_run {
                return Err(Failure::usage(
                    "a report is two transactions, the second three blocks after the first or later",
                    "use evidence commit and then evidence prove: both take --unsigned and --dry-run",
                ));
            }
            let file = read(&file)?;
            let account = context.account(&signing)?.ok_or_else(no_signer)?;
            let client = context.client().await?;
            let options = ReportOptions { fee_cap: context.cap(&signing)?, only_included: no_wait };
            let report = client.faults().report(&file, &account.wallet, options).await?;
            context.output.show(&report, |report| submitted(report, no_wait));
            Ok(())
        }
    }
}

/// Reads all pages before anything is asked or written.
async fn find(pages: &[PathBuf], out: &Path, context: &Context<'_>) -> Result<(), Failure> {
    let mut kept = Kept::default();
    for path in pages {
        let hint = "save what a gateway answers at /v1/requests, for example with curl";
        let unusable = |reason: String| Failure::usage(format!("{}: {reason}", path.display()), hint);
        let bytes = stkr_files::read(path, MAX_PAGE as u64).map_err(|error| unusable(error.reason().to_string()))?;
        kept.append(Kept::from_json(&bytes).map_err(|error| unusable(error.to_string()))?);
    }
    let (requests, envelopes) = (kept.requests.len(), kept.envelopes.len());
    let files = context.client().await?.faults().find(kept).await?;
    let unwritable = |error: std::io::Error| {
        let reason = format!("cannot write to {}: {error}", out.display());
        Failure::usage(reason, "name a folder that can be written with --out")
    };
    std::fs::create_dir_all(out).map_err(unwritable)?;
    let mut lines = Vec::new();
    for file in &files {
        let verified = verified(file)?;
        let path = out.join(format!("{}-{}.json", verified.fault.name(), hex::encode(&verified.evidence[..8])));
        std::fs::write(&path, json!(file).to_string()).map_err(unwritable)?;
        lines.push((
            path.clone(),
            Line { file: path, finding: Finding::Proves(answer(&verified, None, true)) },
            verified,
        ));
    }
    let found: Vec<&Line> = lines.iter().map(|(_, line, _)| line).collect();
    context.output.show(&json!({ "requests": requests, "envelopes": envelopes, "found": found }), |_| {
        let rows: Vec<Vec<String>> = lines
            .iter()
            .map(|(path, _, it)| vec![path.display().to_string(), it.fault.name().to_owned(), accused(&it.accused)])
            .collect();
        match rows.is_empty() {
            true => format!("no fault in {requests} requests and {envelopes} envelopes"),
            false => table(&["FILE", "FAULT", "WHO"], &rows),
        }
    });
    Ok(())
}

fn read(path: &Path) -> Result<EvidenceFile, Failure> {
    let bytes = read_bytes(path, "evidence", NO_FILE)?;
    EvidenceFile::from_json(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", path.display()), HINT))
}

fn verified(file: &EvidenceFile) -> Result<Verified, Failure> {
    file.verify().map_err(|error| {
        Failure::usage(format!("this is no evidence of a fault: {error}"), "the Court would refuse it; report nothing")
    })
}

/// `on_chain`: whether the chain was asked for what only it knows.
fn answer(verified: &Verified, server_id: Option<u32>, on_chain: bool) -> Value {
    let mut answer = json!({
        "fault": verified.fault.name(),
        "keyId": verified.key_id.to_string(),
        "committeeEpoch": verified.committee_epoch.to_string(),
        "evidence": verified.evidence,
        "withdrawalKeyOnly": verified.withdrawal_key_only,
        "onChain": on_chain,
    });
    let accused = match verified.accused {
        Accused::Holder { server_id, signer, root } => {
            json!({"serverId": server_id.to_string(), "signer": signer, "leavesRoot": root})
        }
        Accused::Signer(signer) => json!({"serverId": server_id.map(|id| id.to_string()), "signer": signer}),
        Accused::Dealer { signer, threshold, members } => json!({
            "serverId": server_id.map(|id| id.to_string()),
            "signer": signer,
            "threshold": threshold.to_string(),
            "members": members.to_string(),
        }),
        Accused::Provider { duty_keys, assignment } => {
            json!({"dutyKeys": duty_keys, "assignment": assignment.to_string()})
        }
        Accused::Silent { server_id, block } => json!({
            "serverId": server_id.to_string(),
            "block": block.number.to_string(),
            "blockHash": block.hash,
            "blockTime": moment(block.timestamp),
        }),
    };
    if let Value::Object(fields) = &mut answer {
        fields.insert("accused".into(), accused);
    }
    answer
}

/// The contracts of the file, and whether they were compared with those of a deployment file: without one, whoever made it chose them.
fn judged_as(file: &EvidenceFile, mut answer: Value, compared: bool) -> Value {
    if let Value::Object(fields) = &mut answer {
        fields.insert("chainId".into(), json!(file.chain_id.to_string()));
        fields.insert("keyRegistry".into(), json!(file.key_registry));
        fields.insert("court".into(), json!(file.court));
        fields.insert("ofDeployment".into(), json!(compared));
    }
    answer
}

/// One flipped bit gives another signer, and the rest of the file accuses that one: a script must not take it for proven.
fn only_the_chain_knows(verified: &Verified) -> Failure {
    let (message, hint) = match verified.accused {
        Accused::Provider { duty_keys: [one, other], .. } => (
            format!("whether {one} and {other} are duty keys of one provider only the chain can say"),
            "verify the file without --offline; one that was changed gives another key, too",
        ),
        _ => (
            "whether the dealing is as its dealer signed it only the chain can say: the file does not claim whom it accuses".to_owned(),
            "verify the file without --offline, or take one with `claims`, as a relayer's /v1/evidence has it",
        ),
    };
    Failure { code: "undecided", ..Failure::unavailable(message, hint) }
}

/// What a judgement without a deployment file rests on.
fn believed(file: &EvidenceFile) -> String {
    format!(
        "\nif the contracts that you mean are on chain {} and have the Court {} and the key registry {}: compare them, or give --deployment",
        file.chain_id, file.court, file.key_registry
    )
}

/// A commitment to what is on record, or to what the Court would refuse, costs gas and earns nothing.
async fn must_be_news(client: &Client, file: &EvidenceFile) -> Result<(), Failure> {
    let verified = client.faults().check(file).await?.verified;
    let Some(it) = client.faults().on_record(&verified).await? else { return Ok(()) };
    Err(Failure {
        exit: Exit::Refused,
        code: "on_record",
        message: format!("this evidence is on record already: transaction {}", it.transaction),
        hint: "there is nothing left to prove: a commitment would only cost gas".into(),
    })
}

/// Whom a file accuses that nobody compared with the chain. A signature says who signed, if what it is of was not changed; a server's
/// number is what the file says.
fn claimed(it: &Accused, undecided: bool) -> String {
    match it {
        Accused::Holder { .. } | Accused::Silent { .. } => format!("claims {}", accused(it)),
        _ if undecided => format!("claims {}", accused(it)),
        Accused::Signer(_) | Accused::Dealer { .. } | Accused::Provider { .. } => accused(it),
    }
}

fn accused(accused: &Accused) -> String {
    match accused {
        Accused::Holder { server_id, signer, .. } => format!("server {server_id} (signer {signer})"),
        Accused::Signer(signer) | Accused::Dealer { signer, .. } => {
            format!("the server that signs or signed with {signer}")
        }
        Accused::Provider { duty_keys: [one, other], assignment } if one == other => {
            format!("the provider with duty key {one}, assignment {assignment}")
        }
        Accused::Provider { duty_keys: [one, other], assignment } => {
            format!("the provider with duty keys {one} and {other}, assignment {assignment}")
        }
        Accused::Silent { server_id, .. } => format!("server {server_id}"),
    }
}

fn sentence(verified: &Verified, undecided: bool, on_chain: bool) -> String {
    let rest = match verified.accused {
        _ if on_chain => "",
        Accused::Silent { block, .. } => &format!(
            "\nif block {} of {} has the hash {}: compare it with a source that you trust, or verify without --offline",
            block.number,
            moment(block.timestamp),
            block.hash
        ),
        Accused::Holder { .. } if verified.withdrawal_key_only => {
            "\na fault only if the key is a withdrawal key, which signs nothing without an order: only the chain can say whether it is, whether that seat is one of it, and what was ordered: verify without --offline"
        }
        Accused::Holder { .. } => {
            "\nonly the chain can say whether that seat is one of the key, and what was ordered: verify without --offline"
        }
        Accused::Dealer { .. } => {
            "\nonly the chain can say whose that key is, and of how many shares: verify without --offline"
        }
        Accused::Provider { .. } if undecided => {
            "\nif the two are of different providers it proves nothing, for anybody can ask for a duty that conflicts with another's: only \
             the chain can say whose they are, so verify without --offline"
        }
        _ => "\nonly the chain can say whose that key is: verify without --offline",
    };
    let (fault, key) = (verified.fault.name().replace('_', " "), verified.key_id);
    let proves = match verified.accused {
        Accused::Provider { .. } if undecided => "proves, if both duty keys are of one provider",
        _ if undecided => "proves, if nobody changed the dealing",
        _ => "proves",
    };
    format!("{proves}: {fault} with key {key}, by {}{rest}", accused(&verified.accused))
}

fn submitted(report: &Report, no_wait: bool) -> String {
    let on_record = &report.on_record;
    let Judgement { charged, penalty, bounty, reporter } = on_record.judgement;
    let first = match (report.ours, charged) {
        (false, _) => {
            format!("{reporter} was first with the same evidence: the fault is on record, and nothing is left to do")
        }
        (true, true) => format!(
            "the fault is proven: {} was taken, {} of it can be withdrawn by {reporter}",
            amount::with_unit(penalty),
            amount::with_unit(bounty)
        ),
        (true, false) => {
            "the fault is on record; one of its kind was paid for already, so nothing was taken".to_owned()
        }
    };
    let last = if no_wait { "in a block, not final yet" } else { "final" };
    let state = if report.ours { last } else { "of the other report" };
    let fields =
        [("transaction", on_record.transaction.to_string()), ("block", format!("{} ({state})", on_record.block))];
    format!("{first}\n{}", record(&fields))
}

// ------------------------------------------------------------------------------------------------ show and list

fn show(file: &EvidenceFile, output: &Output) {
    output.show(file, |file| {
        let mut fields = vec![
            ("claims", file.proof.fault().name().replace('_', " ")),
            ("chain", file.chain_id.to_string()),
            ("key registry", file.key_registry.to_string()),
            ("court", file.court.to_string()),
        ];
        match &file.proof {
            Proof::InvalidPartial(it) | Proof::GarbagePartial(it) => {
                fields.push(("server", it.holder.server_id.to_string()));
                fields.push(("signed", envelope(&it.envelope)));
                fields.push(("partial", format!("{} bytes", it.partial.len())));
            }
            Proof::UnauthorisedSignature(it) => {
                fields.push(("server", it.holder.server_id.to_string()));
                fields.push(("signed", envelope(&it.envelope)));
            }
            Proof::ConflictingDuties(it) => {
                fields.push(("server", it.holder.server_id.to_string()));
                fields.extend([("signed", envelope(&it.first)), ("and", envelope(&it.second))]);
            }
            Proof::ProviderEquivocation(it) => {
                fields.push(("assignment", it.first.assignment.to_string()));
                let domain = file.domain();
                fields.extend([("asked for", request(&it.first, &domain)), ("and", request(&it.second, &domain))]);
            }
            Proof::CeremonyEquivocation(it) => {
                fields.push(("member", format!("{} of key {}", it.first.index, it.first.key_id)));
                let said = court::shown(&court::prove(file).data);
                fields.extend(["said", "and"].into_iter().zip(said.iter().map(ToString::to_string)));
            }
            Proof::BadDealing(it) => {
                fields.push(("dealt", dealing(&it.dealing)));
                fields.push(("opened", format!("the share for member {}, with its one-time secret", it.recipient)));
            }
            Proof::MalformedDealing(it) => {
                fields.push(("dealt", dealing(&it.dealing)));
                fields.push(("defect", format!("{}, in a key of {} of {}", it.defect, it.threshold, it.members)));
            }
            Proof::UnansweredChallenge(it) => fields.push(("asked", asked(&it.asked))),
        }
        if let Some(claims) = &file.claims {
            fields.push(("accuses", format!("the server that signs or signed with {}", claims.signer)));
        }
        record(&fields)
    });
}

fn duty(key: u64, kind: u8, slot: u64, (source, target): (u64, u64), root: impl std::fmt::Display) -> String {
    format!("{} with key {key}, slot {slot}, epochs {source} to {target}, root {root}", duty_words(kind))
}

fn envelope(it: &SignedEnvelope) -> String {
    duty(it.key_id, it.duty_kind, it.slot, (it.source_epoch, it.target_epoch), it.signing_root)
}

fn asked(asked: &Asked) -> String {
    match asked {
        Asked::Signature(it) => format!("member {} of key {}, to sign root {}", it.index, it.key_id, it.signing_root),
        Asked::Acknowledgement(it) => {
            format!("member {} of key {}, to acknowledge attempt {}", it.index, it.key_id, it.attempt)
        }
    }
}

/// With the duty key that signed it: the two of a file may be of two.
fn request(it: &SignedDutyRequest, domain: &ProtocolDomain) -> String {
    let signer = recover_signer(it.digest(domain), &it.signature);
    let by = signer.map_or_else(|_| "nobody".to_owned(), |duty_key| format!("duty key {duty_key}"));
    let duty = duty(it.key_id, it.duty_kind, it.slot, (it.source_epoch, it.target_epoch), it.signing_root);
    format!("{duty}, signed by {by}")
}

fn dealing(it: &SignedDealing) -> String {
    format!("dealing of member {} of key {}, attempt {}", it.index, it.key_id, it.attempt)
}

#[derive(Serialize)]
struct Line {
    file: PathBuf,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Finding {
    Proves(Value),
    No { problem: String },
}

/// Every `.json` file of a folder, and what it proves.
fn list(folder: &Path, output: &Output) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(
            format!("{} is no folder that can be read: {error}", folder.display()),
            "give the folder with the files",
        )
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|end| end == "json") {
            files.push(path);
        }
    }
    files.sort();
    let lines: Vec<(Line, [String; 3])> = files.into_iter().map(line).collect();
    let answer: Vec<&Line> = lines.iter().map(|(line, _)| line).collect();
    output.show(&answer, |_| {
        let rows: Vec<Vec<String>> = lines.iter().map(|(_, row)| row.to_vec()).collect();
        table(&["FILE", "FAULT", "WHO"], &rows)
    });
    Ok(())
}

fn line(path: PathBuf) -> (Line, [String; 3]) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let judged = read_bytes(&path, "evidence", NO_FILE)
        .map_err(|failure| failure.message)
        .and_then(|bytes| EvidenceFile::from_json(&bytes).map_err(|error| error.to_string()))
        .and_then(|file| file.verify().map(|verified| (file, verified)).map_err(|error| error.to_string()));
    match judged {
        Ok((file, verified)) => {
            let who = claimed(&verified.accused, file.is_undecided(&verified));
            let row = [name, verified.fault.name().to_owned(), who];
            (
                Line { file: path, finding: Finding::Proves(judged_as(&file, answer(&verified, None, false), false)) },
                row,
            )
        }
        Err(problem) => {
            let row = [name, "none".to_owned(), problem.clone()];
            (Line { file: path, finding: Finding::No { problem } }, row)
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use stkr_protocol::{evidence::Fault, state::ProvenBlock};

    use super::*;

    #[test]
    fn whose_seat_it_is_stays_a_claim_until_the_chain_was_asked() {
        let holder = Accused::Holder { server_id: 3, signer: Address::repeat_byte(1), root: B256::ZERO };
        assert!(claimed(&holder, false).starts_with("claims server 3"), "{}", claimed(&holder, false));
        let block = ProvenBlock { number: 5, hash: B256::ZERO, timestamp: 1_700_000_000 };
        assert_eq!(claimed(&Accused::Silent { server_id: 3, block }, false), "claims server 3");
        let signer = Accused::Signer(Address::repeat_byte(1));
        assert!(claimed(&signer, false).starts_with("the server that signs"), "a signature proves who signed");
        assert!(claimed(&signer, true).starts_with("claims the server that signs"), "if nobody changed what");
    }

    #[test]
    fn two_duty_keys_are_one_provider_only_once_the_chain_said_so() {
        let [one, other] = [1, 2].map(Address::repeat_byte);
        let accused = |duty_keys| Accused::Provider { duty_keys, assignment: 3 };
        let said = |duty_keys: [Address; 2], on_chain: bool| {
            let accused = accused(duty_keys);
            let fault = Fault::ProviderEquivocation;
            let (evidence, key_id, committee_epoch, withdrawal_key_only) = (B256::ZERO, 5, 0, false);
            let verified =
                Verified { fault, evidence, key_id, committee_epoch, accused, earlier_seat: None, withdrawal_key_only };
            sentence(&verified, duty_keys[0] != duty_keys[1] && !on_chain, on_chain)
        };
        let both =
            format!("provider equivocation with key 5, by the provider with duty keys {one} and {other}, assignment 3");
        let offline = said([one, other], false);
        assert!(offline.starts_with(&format!("proves, if both duty keys are of one provider: {both}\n")), "{offline}");
        assert!(offline.contains("if the two are of different providers it proves nothing"), "{offline}");
        assert_eq!(said([one, other], true), format!("proves: {both}"));
        let same =
            format!("proves: provider equivocation with key 5, by the provider with duty key {one}, assignment 3");
        assert_eq!(said([one, one], true), same);
        assert_eq!(
            said([one, one], false),
            format!("{same}\nonly the chain can say whose that key is: verify without --offline")
        );
        assert!(claimed(&accused([one, other]), true).starts_with("claims the provider"));
        assert!(claimed(&accused([one, one]), false).starts_with("the provider"));
    }
}
