//! The database against a naive model: a list of everything ever signed or imported, compared pair by pair.

use proptest::prelude::*;
use stkr_protection::{Attestation, Block, Duty, Now, Protection, Request, Verdict};

use crate::support::{Folder, NOW, block, export, file, import, key, kind, open, vote};

/// A record as the consensus specs see it. `None`: an unknown root, different from all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Record {
    Block { slot: u64, root: Option<u64> },
    Vote { source: u64, target: u64, root: Option<u64> },
}

/// `process_proposer_slashing` and `is_slashable_attestation_data`, with unknown roots counted as different.
fn slashable(one: Record, two: Record) -> bool {
    let differ = |one: Option<u64>, two: Option<u64>| one.is_none() || two.is_none() || one != two;
    match (one, two) {
        (Record::Block { slot, root }, Record::Block { slot: other, root: other_root }) => {
            slot == other && differ(root, other_root)
        }
        (Record::Vote { source: s1, target: t1, root: r1 }, Record::Vote { source: s2, target: t2, root: r2 }) => {
            (t1 == t2 && (s1 != s2 || differ(r1, r2))) || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2)
        }
        _ => false,
    }
}

#[derive(Clone, Debug, Default)]
struct Model {
    records: Vec<Record>,
    low_slot: Option<u64>,
    low_epochs: Option<(u64, u64)>,
}

impl Model {
    fn ask(&mut self, record: Record) -> &'static str {
        if let Record::Vote { source, target, .. } = record
            && source >= target
            && (source, target) != (0, 0)
        {
            return "refused";
        }
        if self.records.contains(&record) {
            return "same again";
        }
        if self.records.iter().any(|signed| slashable(record, *signed)) {
            return "refused";
        }
        match record {
            Record::Block { slot, .. } => {
                if self.low_slot.is_some_and(|low| slot <= low) {
                    return "refused";
                }
                self.low_slot = self.low_slot.or(Some(slot));
            }
            Record::Vote { source, target, .. } => {
                if self.low_epochs.is_some_and(|(low_source, low_target)| source < low_source || target <= low_target) {
                    return "refused";
                }
                self.low_epochs = self.low_epochs.or(Some((source, target)));
            }
        }
        self.records.push(record);
        "safe"
    }
}

fn record(request: &Request) -> Record {
    let number = |root: alloy_primitives::B256| Some(u64::from_be_bytes(root[24..].try_into().unwrap()));
    match request.duty {
        Duty::Block(Block { slot, signing_root }) => Record::Block { slot, root: number(signing_root) },
        Duty::Attestation(Attestation { source_epoch, target_epoch, signing_root }) => {
            Record::Vote { source: source_epoch, target: target_epoch, root: number(signing_root) }
        }
    }
}

/// A coarse kind, to compare with the model's.
fn outcome(verdict: Verdict) -> &'static str {
    match kind(verdict) {
        "safe" => "safe",
        "same again" => "same again",
        _ => "refused",
    }
}

fn requests(epochs: u64) -> impl Strategy<Value = Request> {
    (1_u8..3, 0..epochs, 0..epochs, 0_u64..3, prop::bool::weighted(0.25)).prop_map(
        |(number, source, target, root, is_block)| {
            if is_block { block(key(number), target, root) } else { vote(key(number), source, target, root) }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Ask(Vec<Request>),
    Import { number: u8, blocks: Vec<u64>, votes: Vec<(u64, u64)> },
    Prune(u64),
    Close { number: u8, epoch: u64 },
    Reopen,
    Recreate,
    LeaveAndComeBack(u8),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(requests(16), 1..12).prop_map(Step::Ask),
        2 => (1_u8..3, prop::collection::vec(0_u64..16, 0..4), prop::collection::vec((0_u64..16, 0_u64..16), 0..4))
            .prop_map(|(number, blocks, votes)| Step::Import { number, blocks, votes }),
        1 => (0_u64..16).prop_map(Step::Prune),
        1 => (1_u8..3, 0_u64..10).prop_map(|(number, epoch)| Step::Close { number, epoch }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Recreate),
        1 => (1_u8..3).prop_map(Step::LeaveAndComeBack),
    ]
}

fn registered() -> (Folder, Protection) {
    let folder = Folder::quick();
    let protection = folder.create();
    protection.register(&[key(1), key(2)], None).unwrap();
    (folder, protection)
}

fn of(request: &Request) -> usize {
    usize::from(request.pubkey == key(2))
}

proptest! {
    #![proptest_config(crate::support::cases(256))]

    /// As long as nothing is imported or pruned, every answer is the model's.
    #[test]
    fn every_answer_is_that_of_a_naive_model(batches in prop::collection::vec(prop::collection::vec(requests(12), 1..20), 1..12)) {
        let (_folder, protection) = registered();
        let mut models = [Model::default(), Model::default()];
        for batch in batches {
            let verdicts = protection.check_and_record(&batch, NOW).unwrap();
            for (request, verdict) in batch.iter().zip(verdicts) {
                let expected = models[of(request)].ask(record(request));
                prop_assert_eq!(outcome(verdict), expected, "{:?}: {}", request, verdict);
            }
        }
        for (number, model) in [1, 2].into_iter().zip(models) {
            let state = protection.key(&key(number)).unwrap().unwrap();
            prop_assert_eq!(state.low.slot, model.low_slot);
            prop_assert_eq!(state.low.epochs.map(|low| (low.source_epoch, low.target_epoch)), model.low_epochs);
            let slots = model.records.iter().filter_map(|record| match record { Record::Block { slot, .. } => Some(*slot), _ => None });
            let targets = model.records.iter().filter_map(|record| match record { Record::Vote { target, .. } => Some(*target), _ => None });
            let sources = model.records.iter().filter_map(|record| match record { Record::Vote { source, .. } => Some(*source), _ => None });
            prop_assert_eq!(state.high.slot, slots.max());
            prop_assert_eq!(state.high.epochs.map(|high| (high.source_epoch, high.target_epoch)), sources.max().zip(targets.max()));
        }
    }

    /// Whatever is imported, pruned, closed, reopened or moved to a new file: what is called safe contradicts nothing ever
    /// signed or imported, what is called the same was there, and what lies above everything is safe.
    #[test]
    fn nothing_slashable_is_ever_signed(steps in prop::collection::vec(steps(), 1..30)) {
        let (mut folder, protection) = registered();
        let mut protection = Some(protection);
        let mut known: [Vec<Record>; 2] = Default::default();
        let mut low = protection.as_ref().unwrap().keys().unwrap();
        for step in steps {
            let database = protection.as_ref().unwrap();
            match step {
                Step::Ask(batch) => {
                    let verdicts = database.check_and_record(&batch, NOW).unwrap();
                    for (request, verdict) in batch.iter().zip(verdicts) {
                        let (record, known) = (record(request), &mut known[of(request)]);
                        match outcome(verdict) {
                            "safe" => {
                                let against = known.iter().find(|signed| slashable(record, **signed));
                                prop_assert!(against.is_none(), "{record:?} was called safe against {against:?}");
                                known.push(record);
                            }
                            "same again" => {
                                prop_assert!(known.contains(&record), "{record:?} was never there");
                                // Nor is there a second record of unknown or other root.
                                prop_assert!(!known.iter().any(|signed| slashable(record, *signed)), "{record:?}");
                            }
                            _ => {}
                        }
                    }
                }
                Step::Import { number, blocks, votes } => {
                    import(database, &file(&[(key(number), &blocks, &votes)]));
                    let known = &mut known[usize::from(number) - 1];
                    known.extend(blocks.iter().map(|slot| Record::Block { slot: *slot, root: None }));
                    known.extend(votes.iter().map(|(source, target)| Record::Vote { source: *source, target: *target, root: None }));
                }
                Step::Prune(at) => {
                    database.prune(Now { slot: at, epoch: at }).unwrap();
                }
                Step::Close { number, epoch } => database.close_history(&[key(number)], Now { slot: epoch, epoch }).unwrap(),
                Step::Reopen => {
                    drop(protection.take());
                    protection = Some(open(&folder.path));
                }
                Step::Recreate => {
                    let json = export(database);
                    let next = Folder::quick();
                    protection = Some(next.create());
                    folder = next;
                    import(protection.as_ref().unwrap(), &json);
                }
                Step::LeaveAndComeBack(number) => {
                    database.deactivate(&[key(number)]).unwrap();
                    database.activate(&[key(number)]).unwrap();
                }
            }
            let database = protection.as_ref().unwrap();
            let state = database.keys().unwrap();
            for (before, after) in low.iter().zip(&state) {
                prop_assert!(before.low.slot <= after.low.slot);
                let epochs = |state: &stkr_protection::KeyState| state.low.epochs.map(|low| (low.source_epoch, low.target_epoch));
                let (before, after) = (epochs(before).unwrap_or((0, 0)), epochs(after).unwrap_or((0, 0)));
                prop_assert!(before.0 <= after.0 && before.1 <= after.1, "watermarks fell from {before:?} to {after:?}");
            }
            low = state;
        }
        let database = protection.as_ref().unwrap();
        for number in [1, 2] {
            let batch = [block(key(number), 100, 1), vote(key(number), 99, 100, 1)];
            prop_assert_eq!(database.check_and_record(&batch, NOW).unwrap(), [Verdict::Safe; 2]);
        }
        drop(protection);
        drop(open(&folder.path));
    }
}
