//! Which field of a file that is no evidence is wrong, for whoever wrote or changed it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    DefectiveDealing, DutiesProof, EnvelopeProof, EvidenceFile, Fault, MessagesProof, OpenedDealing, PartialProof,
    RequestsProof, UnansweredProof, VERSION,
};
use crate::json::plain;

/// The first field that cannot be read and why, with dots between names: `proof.envelope.slot: integer `5` where a string belongs`.
/// Nothing where what is wrong is not in a field: no JSON, or another document.
pub(super) fn field(bytes: &[u8]) -> Option<String> {
    let mut file: Value = serde_json::from_slice(bytes).ok()?;
    if !file.is_object() {
        return None;
    }
    // What is wrong with the rest of a file of another version, nobody can say.
    if let Some(version) = file.get("version").and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok())
        && version != u64::from(VERSION)
    {
        return Some(format!("version: it is of version {version}"));
    }
    // The tag makes serde read a proof before it knows of which fault, and forget where in it it is.
    let in_proof = file.get_mut("proof").and_then(Value::as_object_mut).and_then(|proof| {
        let name = proof.remove("fault")?;
        let fault = Fault::ALL.into_iter().find(|fault| Some(fault.name()) == name.as_str())?;
        in_proof(fault, Value::Object(proof.clone()))
    });
    match in_proof {
        Some((path, reason)) => Some(at(&format!("proof.{path}"), &reason)),
        None => {
            let mut reader = serde_json::Deserializer::from_slice(bytes);
            let error = serde_path_to_error::deserialize::<_, EvidenceFile>(&mut reader).err()?;
            let path = error.path().to_string();
            (path != ".").then(|| at(&path, &error.inner().to_string()))
        }
    }
}

fn at(path: &str, said: &str) -> String {
    let said = said.split(" at line ").next().unwrap_or_default();
    // The path of a field that nothing knows ends in its name, which the reason has too.
    let unknown = said.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    let (path, reason) = match unknown {
        Some((name, _)) => (path.strip_suffix(name).unwrap_or(path), format!("unknown field `{name}`")),
        None => (path, plain(said)),
    };
    match path.trim_end_matches('.') {
        "" => reason,
        path => format!("{path}: {reason}"),
    }
}

fn in_proof(fault: Fault, proof: Value) -> Option<(String, String)> {
    match fault {
        Fault::InvalidPartial | Fault::GarbagePartial => wrong::<PartialProof>(proof),
        Fault::ConflictingDuties => wrong::<DutiesProof>(proof),
        Fault::UnauthorisedSignature => wrong::<EnvelopeProof>(proof),
        Fault::ProviderEquivocation => wrong::<RequestsProof>(proof),
        Fault::CeremonyEquivocation => wrong::<MessagesProof>(proof),
        Fault::BadDealing => wrong::<OpenedDealing>(proof),
        Fault::MalformedDealing => wrong::<DefectiveDealing>(proof),
        Fault::UnansweredChallenge => wrong::<UnansweredProof>(proof),
    }
}

fn wrong<T: DeserializeOwned>(proof: Value) -> Option<(String, String)> {
    let error = serde_path_to_error::deserialize::<_, T>(proof).err()?;
    Some((error.path().to_string(), error.inner().to_string()))
}
