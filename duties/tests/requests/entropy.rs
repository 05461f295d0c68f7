//! Random values out of random bytes, so that proptest can shrink what it found. Bytes that have run out are zeros.

use alloy_primitives::{Address, B256, FixedBytes};
use ssz_types::{BitList, BitVector, FixedVector, VariableList, typenum::Unsigned};
use stkr_duties::{
    AggregateAndProof, Block, BlockProof, ByPreset, DepositData, DepositMessage, Duty, DutyKind, Epoch, Fork, ForkInfo,
    FullBlock, Limits, Mainnet, Minimal, Preset, RequestFork, SigningRequest, Slot, ValidatorIndex,
    containers::{ValidatorRegistration, altair, electra, phase0},
};

pub(crate) struct Entropy<'a> {
    bytes: &'a [u8],
    /// Elements that every list has at least.
    least: usize,
}

impl<'a> Entropy<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, least: 0 }
    }

    /// No list is empty.
    pub(crate) fn full(bytes: &'a [u8]) -> Self {
        Self { bytes, least: 1 }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (now, rest) = self.bytes.split_at(N.min(self.bytes.len()));
        bytes[..now.len()].copy_from_slice(now);
        self.bytes = rest;
        bytes
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(u16::from_be_bytes(self.bytes())) % limit
    }

    fn number(&mut self) -> u64 {
        // Small, large and largest alike.
        u64::from_le_bytes(self.bytes()) >> [0, 0, 30, 50, 60, 63][self.below(6)]
    }

    fn root(&mut self) -> B256 {
        B256::from(self.bytes::<32>())
    }

    fn signature(&mut self) -> FixedBytes<96> {
        FixedBytes(self.bytes())
    }

    fn list<T, N: Unsigned>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> VariableList<T, N> {
        let length = self.below(4).max(self.least).min(N::to_usize());
        VariableList::new((0..length).map(|_| element(self)).collect()).unwrap()
    }

    fn bit_list<N: Unsigned + Clone>(&mut self) -> BitList<N> {
        let length = self.below(20).min(N::to_usize());
        let mut bits = BitList::with_capacity(length).unwrap();
        for bit in 0..length {
            bits.set(bit, self.below(2) == 1).unwrap();
        }
        bits
    }

    fn bit_vector<N: Unsigned + Clone>(&mut self) -> BitVector<N> {
        let mut bits = BitVector::new();
        for _ in 0..self.below(5) {
            bits.set(self.below(N::to_usize()), true).unwrap();
        }
        bits
    }

    fn checkpoint(&mut self) -> phase0::Checkpoint {
        phase0::Checkpoint { epoch: Epoch(self.number()), root: self.root() }
    }

    fn vote(&mut self) -> phase0::AttestationData {
        phase0::AttestationData {
            slot: Slot(self.number()),
            index: self.number(),
            beacon_block_root: self.root(),
            source: self.checkpoint(),
            target: self.checkpoint(),
        }
    }

    fn attestation(&mut self) -> phase0::Attestation {
        phase0::Attestation { aggregation_bits: self.bit_list(), data: self.vote(), signature: self.signature() }
    }

    fn indexed(&mut self) -> phase0::IndexedAttestation {
        phase0::IndexedAttestation {
            attesting_indices: self.list(|entropy| ValidatorIndex(entropy.number())),
            data: self.vote(),
            signature: self.signature(),
        }
    }

    fn header(&mut self) -> phase0::BeaconBlockHeader {
        phase0::BeaconBlockHeader {
            slot: Slot(self.number()),
            proposer_index: ValidatorIndex(self.number()),
            parent_root: self.root(),
            state_root: self.root(),
            body_root: self.root(),
        }
    }

    fn signed_header(&mut self) -> phase0::SignedBeaconBlockHeader {
        phase0::SignedBeaconBlockHeader { message: self.header(), signature: self.signature() }
    }

    fn deposit(&mut self) -> phase0::Deposit {
        phase0::Deposit {
            proof: FixedVector::new((0..33).map(|_| self.root()).collect()).unwrap(),
            data: DepositData {
                pubkey: self.bytes(),
                withdrawal_credentials: self.root(),
                amount_gwei: self.number(),
                signature: self.bytes(),
            },
        }
    }

    fn exit(&mut self) -> phase0::VoluntaryExit {
        phase0::VoluntaryExit { epoch: Epoch(self.number()), validator_index: ValidatorIndex(self.number()) }
    }

    fn body(&mut self) -> phase0::BeaconBlockBody {
        phase0::BeaconBlockBody {
            randao_reveal: self.signature(),
            eth1_data: phase0::Eth1Data {
                deposit_root: self.root(),
                deposit_count: self.number(),
                block_hash: self.root(),
            },
            graffiti: self.root(),
            proposer_slashings: self.list(|entropy| phase0::ProposerSlashing {
                signed_header_1: entropy.signed_header(),
                signed_header_2: entropy.signed_header(),
            }),
            attester_slashings: self.list(|entropy| phase0::AttesterSlashing {
                attestation_1: entropy.indexed(),
                attestation_2: entropy.indexed(),
            }),
            attestations: self.list(Self::attestation),
            deposits: self.list(Self::deposit),
            voluntary_exits: self.list(|entropy| phase0::SignedVoluntaryExit {
                message: entropy.exit(),
                signature: entropy.signature(),
            }),
        }
    }

    fn phase0_block(&mut self) -> Box<phase0::BeaconBlock> {
        let header = self.header();
        Box::new(phase0::BeaconBlock {
            slot: header.slot,
            proposer_index: header.proposer_index,
            parent_root: header.parent_root,
            state_root: header.state_root,
            body: self.body(),
        })
    }

    fn altair_block<P: Limits>(&mut self) -> Box<altair::BeaconBlock<P>> {
        let (header, body) = (self.header(), self.body());
        Box::new(altair::BeaconBlock {
            slot: header.slot,
            proposer_index: header.proposer_index,
            parent_root: header.parent_root,
            state_root: header.state_root,
            body: altair::BeaconBlockBody {
                randao_reveal: body.randao_reveal,
                eth1_data: body.eth1_data,
                graffiti: body.graffiti,
                proposer_slashings: body.proposer_slashings,
                attester_slashings: body.attester_slashings,
                attestations: body.attestations,
                deposits: body.deposits,
                voluntary_exits: body.voluntary_exits,
                sync_aggregate: altair::SyncAggregate {
                    sync_committee_bits: self.bit_vector(),
                    sync_committee_signature: self.signature(),
                },
            },
        })
    }

    fn full_block(&mut self, fork: Fork, preset: Preset) -> FullBlock {
        match (fork, preset) {
            (Fork::Phase0, _) => FullBlock::Phase0(self.phase0_block()),
            (_, Preset::Mainnet) => FullBlock::Altair(ByPreset::Mainnet(self.altair_block::<Mainnet>())),
            (_, Preset::Minimal) => FullBlock::Altair(ByPreset::Minimal(self.altair_block::<Minimal>())),
        }
    }

    fn electra_aggregate<P: Limits>(&mut self) -> electra::AggregateAndProof<P> {
        electra::AggregateAndProof {
            aggregator_index: ValidatorIndex(self.number()),
            aggregate: electra::Attestation {
                aggregation_bits: self.bit_list(),
                data: self.vote(),
                signature: self.signature(),
                committee_bits: self.bit_vector(),
            },
            selection_proof: self.signature(),
        }
    }

    fn aggregate(&mut self, fork: Fork, preset: Preset) -> AggregateAndProof {
        match (fork >= Fork::Electra, preset) {
            (false, _) => AggregateAndProof::Phase0(phase0::AggregateAndProof {
                aggregator_index: ValidatorIndex(self.number()),
                aggregate: self.attestation(),
                selection_proof: self.signature(),
            }),
            (true, Preset::Mainnet) => AggregateAndProof::Electra(ByPreset::Mainnet(self.electra_aggregate())),
            (true, Preset::Minimal) => AggregateAndProof::Electra(ByPreset::Minimal(self.electra_aggregate())),
        }
    }

    fn contribution<P: Limits>(&mut self) -> altair::ContributionAndProof<P> {
        altair::ContributionAndProof {
            aggregator_index: ValidatorIndex(self.number()),
            contribution: altair::SyncCommitteeContribution {
                slot: Slot(self.number()),
                beacon_block_root: self.root(),
                subcommittee_index: self.number(),
                aggregation_bits: self.bit_vector(),
                signature: self.signature(),
            },
            selection_proof: self.signature(),
        }
    }

    pub(crate) fn duty(&mut self, kind: DutyKind, fork: Fork, preset: Preset) -> Duty {
        match kind {
            DutyKind::AggregationSlot => Duty::AggregationSlot(Slot(self.number())),
            DutyKind::AggregateAndProof => Duty::AggregateAndProof(self.aggregate(fork, preset)),
            DutyKind::AggregateAndProofV2 => {
                Duty::AggregateAndProofV2 { version: fork, data: self.aggregate(fork, preset) }
            }
            DutyKind::Attestation => Duty::Attestation(self.vote()),
            DutyKind::Block => Duty::Block(self.full_block(fork.min(Fork::Altair), preset)),
            DutyKind::BlockV2 => {
                let block = if fork < Fork::Bellatrix {
                    Block::Full(self.full_block(fork, preset))
                } else {
                    Block::Header(self.header())
                };
                Duty::BlockV2 { version: fork, block }
            }
            DutyKind::Deposit => Duty::Deposit {
                message: DepositMessage {
                    pubkey: self.bytes(),
                    withdrawal_credentials: self.root(),
                    amount_gwei: self.number(),
                },
                genesis_fork_version: self.bytes(),
            },
            DutyKind::RandaoReveal => Duty::RandaoReveal(Epoch(self.number())),
            DutyKind::VoluntaryExit => Duty::VoluntaryExit(self.exit()),
            DutyKind::SyncCommitteeMessage => {
                Duty::SyncCommitteeMessage { slot: Slot(self.number()), beacon_block_root: self.root() }
            }
            DutyKind::SyncCommitteeSelectionProof => {
                Duty::SyncCommitteeSelectionProof(altair::SyncAggregatorSelectionData {
                    slot: Slot(self.number()),
                    subcommittee_index: self.number(),
                })
            }
            DutyKind::SyncCommitteeContributionAndProof => Duty::SyncCommitteeContributionAndProof(match preset {
                Preset::Mainnet => ByPreset::Mainnet(self.contribution()),
                Preset::Minimal => ByPreset::Minimal(self.contribution()),
            }),
            DutyKind::ValidatorRegistration => Duty::ValidatorRegistration(ValidatorRegistration {
                fee_recipient: Address::from(self.bytes::<20>()),
                gas_limit: self.number(),
                timestamp: self.number(),
                pubkey: FixedBytes(self.bytes()),
            }),
        }
    }

    pub(crate) fn request(&mut self) -> (SigningRequest, Preset) {
        let kind = DutyKind::ALL[self.below(DutyKind::ALL.len())];
        let fork = Fork::ALL[self.below(Fork::ALL.len())];
        let preset = [Preset::Mainnet, Preset::Minimal][self.below(2)];
        let fork_info = ForkInfo {
            fork: RequestFork {
                previous_version: self.bytes(),
                current_version: self.bytes(),
                epoch: Epoch(self.number()),
            },
            genesis_validators_root: self.root(),
        };
        let proofs = (0..if kind == DutyKind::BlockV2 { self.below(4) } else { 0 })
            .map(|_| BlockProof { index: self.number(), branch: (0..self.below(12)).map(|_| self.root()).collect() })
            .collect();
        let request = SigningRequest {
            duty: self.duty(kind, fork, preset),
            fork_info: (kind.has_fork_info() || self.below(2) == 1).then_some(fork_info),
            signing_root: (self.below(2) == 1).then(|| self.root()),
            proofs,
        };
        (request, preset)
    }
}
