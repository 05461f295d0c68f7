//! Kept rows with what was signed in the raw form of evidence ([`stkr_protocol::kept`]): who reads them needs no fork schedule.
//!
//! Computed when a page is asked for and not stored: it follows from the request and the answers, and would take more room than
//! both.

use serde_json::Value;
use stkr_duties::ForkSchedule;
use stkr_protocol::evidence::{SignedDutyRequest, SignedEnvelope};
use stkr_protocol::sign::{CheckedDuty, SignRequest, SignedPartial};

use crate::store::Row;

/// Adds `signedRequest`, and `signed` to each envelope. A row that this version cannot read stays as it is.
pub fn complete(row: &mut Row, schedule: &ForkSchedule) {
    let Some((duty, signature)) = duty(&row.request, schedule) else { return };
    row.signed_request = Some(request(&duty, signature));
    let envelopes = row.envelopes.as_array_mut().into_iter().flatten();
    for envelope in envelopes.filter_map(Value::as_object_mut) {
        let answer = envelope.get("answer").and_then(|answer| serde_json::from_value(answer.clone()).ok());
        let signed = answer.and_then(|answer| serde_json::to_value(signed(&duty, &answer)).ok());
        envelope.extend(signed.map(|signed| ("signed".to_owned(), signed)));
    }
}

fn duty(request: &Value, schedule: &ForkSchedule) -> Option<(CheckedDuty, [u8; 65])> {
    // Through text: a duty is kept as it was sent, which no `Value` can give.
    match serde_json::from_str(&request.to_string()).ok()? {
        SignRequest::Duty(duty) => Some((duty.check(schedule).ok()?, duty.signature)),
        SignRequest::Deposit(_) | SignRequest::Change(_) => None,
    }
}

fn request(duty: &CheckedDuty, signature: [u8; 65]) -> SignedDutyRequest {
    let subject = duty.subject();
    let (source_epoch, target_epoch) = subject.epochs();
    SignedDutyRequest {
        key_id: subject.key_id(),
        assignment: duty.assignment(),
        duty_kind: subject.duty_kind() as u8,
        slot: subject.slot(),
        source_epoch,
        target_epoch,
        signing_root: subject.signing_root(),
        signature,
    }
}

fn signed(duty: &CheckedDuty, answer: &SignedPartial) -> SignedEnvelope {
    let envelope = duty.subject().envelope(answer.committee_epoch, answer.index, &answer.partial);
    SignedEnvelope::new(&envelope, answer.envelope)
}
