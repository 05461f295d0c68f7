//! The beacon chain a signer is pinned to: genesis, forks and their epochs.

use alloy_primitives::{B256, b256};
use serde::Deserialize;
use thiserror::Error;

use crate::{
    Epoch, Fork, Preset, Slot,
    domain::{self, compute_domain},
    json,
};

/// A fork, its version and the epoch from which it is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledFork {
    /// Which fork.
    pub fork: Fork,
    /// `*_FORK_VERSION`.
    pub version: [u8; 4],
    /// `*_FORK_EPOCH`; 0 where the chain started with the fork.
    pub epoch: Epoch,
}

/// The constants of a beacon chain that its signatures depend on.
///
/// Every program pins one. Roots are computed from it and from the duty alone: what a request says of forks is compared
/// with it and never used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ScheduleConfig")]
pub struct ForkSchedule {
    preset: Preset,
    genesis_validators_root: B256,
    genesis_time: u64,
    seconds_per_slot: u64,
    genesis: ScheduledFork,
    later: Vec<ScheduledFork>,
}

/// A schedule as a config file gives it, for chains without a preset.
///
/// ```toml
/// preset = "minimal"
/// genesis_validators_root = "0x05d79a31a8e69ecd78114c50ce73116be33027d8431b82fff6c0b3cd9c2cbb1f"
/// genesis_time = 1700000000
/// seconds_per_slot = 2
/// forks = [
///     { name = "phase0", version = "0x00000001", epoch = 0 },
///     { name = "altair", version = "0x01000001", epoch = 0 },
/// ]
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// `mainnet` or `minimal`.
    pub preset: String,
    /// Root of the validator registry at genesis, which tells chains with equal fork versions apart.
    #[serde(with = "json::bytes")]
    pub genesis_validators_root: B256,
    /// Unix time of slot 0, seconds.
    pub genesis_time: u64,
    /// `SECONDS_PER_SLOT`.
    pub seconds_per_slot: u64,
    /// Every fork from phase0 to the newest the chain knows, in order; several may share an epoch.
    pub forks: Vec<ForkConfig>,
}

/// One fork of a [`ScheduleConfig`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkConfig {
    /// Name in lower case.
    pub name: String,
    /// `*_FORK_VERSION`.
    #[serde(with = "json::bytes")]
    pub version: [u8; 4],
    /// `*_FORK_EPOCH`.
    pub epoch: u64,
}

/// A schedule that no beacon chain can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// The preset is neither mainnet nor minimal.
    #[error("preset: {0}")]
    Preset(#[from] crate::UnknownPreset),
    /// The name of a fork is unknown.
    #[error("fork {name:?}: {source}")]
    Fork {
        /// The name.
        name: String,
        /// Why.
        source: crate::UnknownFork,
    },
    /// Forks are missing, repeated or out of order.
    #[error("the fork at position {position} must be {expected}: give every fork from phase0 on, in order")]
    Order {
        /// From 0.
        position: usize,
        /// What belongs there.
        expected: Fork,
    },
    /// More forks than this crate knows, or none.
    #[error("between 1 and {known} forks are needed, not {given}", known = Fork::ALL.len())]
    Count {
        /// How many there are.
        given: usize,
    },
    /// A fork is active before the one it builds on, or phase0 is not active at epoch 0.
    #[error(
        "{fork} cannot be active from epoch {epoch}: phase0 is active from epoch 0, every other after the one before"
    )]
    Epoch {
        /// The fork.
        fork: Fork,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Two forks share a version, so that a signature for one would count for the other.
    #[error("{fork} has the version of an earlier fork")]
    Version {
        /// The later of the two.
        fork: Fork,
    },
    /// Slots without duration.
    #[error("seconds_per_slot is 0")]
    SecondsPerSlot,
}

impl TryFrom<ScheduleConfig> for ForkSchedule {
    type Error = ScheduleError;

    fn try_from(config: ScheduleConfig) -> Result<Self, ScheduleError> {
        let preset = config.preset.parse::<Preset>()?;
        let mut forks = Vec::new();
        for (position, given) in config.forks.iter().enumerate() {
            let fork = given.name.parse().map_err(|source| ScheduleError::Fork { name: given.name.clone(), source })?;
            let expected = *Fork::ALL.get(position).ok_or(ScheduleError::Count { given: config.forks.len() })?;
            if fork != expected {
                return Err(ScheduleError::Order { position, expected });
            }
            let scheduled = ScheduledFork { fork, version: given.version, epoch: Epoch(given.epoch) };
            let earliest = forks.last().map_or(Epoch(0), |before: &ScheduledFork| before.epoch);
            if scheduled.epoch < earliest || (position == 0 && scheduled.epoch != earliest) {
                return Err(ScheduleError::Epoch { fork, epoch: scheduled.epoch });
            }
            if forks.iter().any(|before| before.version == scheduled.version) {
                return Err(ScheduleError::Version { fork });
            }
            forks.push(scheduled);
        }
        if config.seconds_per_slot == 0 {
            return Err(ScheduleError::SecondsPerSlot);
        }
        let (genesis, later) = forks.split_first().ok_or(ScheduleError::Count { given: 0 })?;
        Ok(Self {
            preset,
            genesis_validators_root: config.genesis_validators_root,
            genesis_time: config.genesis_time,
            seconds_per_slot: config.seconds_per_slot,
            genesis: *genesis,
            later: later.to_vec(),
        })
    }
}

impl ForkSchedule {
    /// Ethereum mainnet: `configs/mainnet.yaml` of the consensus specs; genesis of eth-clients/mainnet.
    #[must_use]
    pub fn mainnet() -> Self {
        Self::public(
            b256!("4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"),
            1_606_824_023,
            |fork| [fork as u8, 0, 0, 0],
            [74_240, 144_896, 194_048, 269_568, 364_032, 411_392],
        )
    }

    /// The Hoodi test network: `metadata/config.yaml` of eth-clients/hoodi.
    #[must_use]
    pub fn hoodi() -> Self {
        Self::public(
            b256!("212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f"),
            1_742_213_400,
            |fork| [(fork as u8 + 1) << 4, 0, 0x09, 0x10],
            [0, 0, 0, 0, 2_048, 50_688],
        )
    }

    /// The schedule of the public network called `name`, `None` where its values have to be given: on any other chain the
    /// genesis validators root is only known once it exists.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "mainnet" => Some(Self::mainnet()),
            "hoodi" => Some(Self::hoodi()),
            _ => None,
        }
    }

    fn public(root: B256, genesis_time: u64, version: fn(Fork) -> [u8; 4], epochs: [u64; 6]) -> Self {
        let scheduled = |fork, epoch| ScheduledFork { fork, version: version(fork), epoch: Epoch(epoch) };
        Self {
            preset: Preset::Mainnet,
            genesis_validators_root: root,
            genesis_time,
            seconds_per_slot: 12,
            genesis: scheduled(Fork::Phase0, 0),
            later: Fork::ALL[1..].iter().zip(epochs).map(|(fork, epoch)| scheduled(*fork, epoch)).collect(),
        }
    }

    /// Preset of the chain.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Root of the validator registry at genesis.
    #[must_use]
    pub fn genesis_validators_root(&self) -> B256 {
        self.genesis_validators_root
    }

    /// Unix time of slot 0, seconds.
    #[must_use]
    pub fn genesis_time(&self) -> u64 {
        self.genesis_time
    }

    /// `SECONDS_PER_SLOT`.
    #[must_use]
    pub fn seconds_per_slot(&self) -> u64 {
        self.seconds_per_slot
    }

    /// `GENESIS_FORK_VERSION`.
    #[must_use]
    pub fn genesis_fork_version(&self) -> [u8; 4] {
        self.genesis.version
    }

    /// Every fork, oldest first.
    pub fn forks(&self) -> impl Iterator<Item = &ScheduledFork> {
        std::iter::once(&self.genesis).chain(&self.later)
    }

    /// The fork that is active in `epoch` (phase0 `compute_fork_version`, for every fork).
    #[must_use]
    pub fn fork_at(&self, epoch: Epoch) -> &ScheduledFork {
        self.later.iter().rfind(|fork| fork.epoch <= epoch).unwrap_or(&self.genesis)
    }

    /// phase0 `compute_epoch_at_slot`.
    #[must_use]
    pub fn epoch_at(&self, slot: Slot) -> Epoch {
        Epoch(slot.0 / self.preset.slots_per_epoch())
    }

    /// The slot that is current at this Unix time; `None` before genesis.
    #[must_use]
    pub fn slot_at_time(&self, unix_seconds: u64) -> Option<Slot> {
        Some(Slot(unix_seconds.checked_sub(self.genesis_time)? / self.seconds_per_slot))
    }

    /// phase0 `get_domain` for an object of `epoch`.
    #[must_use]
    pub fn domain(&self, domain_type: [u8; 4], epoch: Epoch) -> B256 {
        compute_domain(domain_type, self.fork_at(epoch).version, self.genesis_validators_root)
    }

    /// Domain of voluntary exits (phase0 and deneb `process_voluntary_exit`).
    ///
    /// From Deneb on every exit is verified under Capella's version, whatever its epoch (EIP-7044). What counts is the
    /// fork of the chain that processes the exit and not the exit's epoch, so a chain whose schedule has Deneb at all
    /// gets Capella's version; only while Deneb is still to come is an exit of an epoch before Capella invalid that way.
    #[must_use]
    pub fn exit_domain(&self, epoch: Epoch) -> B256 {
        compute_domain(domain::DOMAIN_VOLUNTARY_EXIT, self.exit_version(epoch), self.genesis_validators_root)
    }

    pub(crate) fn exit_version(&self, epoch: Epoch) -> [u8; 4] {
        let has_deneb = self.forks().any(|scheduled| scheduled.fork == Fork::Deneb);
        let capella = self.forks().find(|scheduled| scheduled.fork == Fork::Capella);
        match capella {
            Some(capella) if has_deneb => capella.version,
            _ => self.fork_at(epoch).version,
        }
    }

    /// Domain of messages that are valid on every fork of this chain: genesis fork version and genesis validators root
    /// (capella `process_bls_to_execution_change`).
    #[must_use]
    pub fn lasting_domain(&self, domain_type: [u8; 4]) -> B256 {
        compute_domain(domain_type, self.genesis.version, self.genesis_validators_root)
    }

    /// Domain of messages from before genesis or from outside the chain: genesis fork version and no root (phase0
    /// deposits; builder-specs registrations).
    #[must_use]
    pub fn rootless_domain(&self, domain_type: [u8; 4]) -> B256 {
        compute_domain(domain_type, self.genesis.version, B256::ZERO)
    }

    pub(crate) fn knows(&self, version: [u8; 4]) -> bool {
        self.forks().any(|scheduled| scheduled.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;

    fn config() -> ScheduleConfig {
        let fork =
            |name: &str, version, epoch| ForkConfig { name: name.to_owned(), version: [version, 0, 0, 1], epoch };
        ScheduleConfig {
            preset: "minimal".to_owned(),
            genesis_validators_root: B256::repeat_byte(7),
            genesis_time: 1_000,
            seconds_per_slot: 2,
            forks: vec![fork("phase0", 0, 0), fork("altair", 1, 0), fork("bellatrix", 2, 5)],
        }
    }

    fn refusal(change: impl FnOnce(&mut ScheduleConfig)) -> ScheduleError {
        let mut config = config();
        change(&mut config);
        ForkSchedule::try_from(config).unwrap_err()
    }

    #[test]
    fn public_networks_carry_the_genesis_fork_version_that_deposits_are_signed_under() {
        for name in ["mainnet", "hoodi"] {
            let schedule = ForkSchedule::by_name(name).unwrap();
            assert_eq!(schedule.genesis_fork_version(), Network::by_name(name).unwrap().genesis_fork_version);
            assert_eq!(schedule.forks().map(|scheduled| scheduled.fork).collect::<Vec<_>>(), Fork::ALL);
        }
        assert!(ForkSchedule::by_name("devnet").is_none());
    }

    #[test]
    fn a_fork_is_active_from_its_first_epoch_on() {
        let mainnet = ForkSchedule::mainnet();
        for (epoch, fork) in [
            (0, Fork::Phase0),
            (74_239, Fork::Phase0),
            (74_240, Fork::Altair),
            (364_031, Fork::Deneb),
            (364_032, Fork::Electra),
            (411_392, Fork::Fulu),
            (u64::MAX, Fork::Fulu),
        ] {
            assert_eq!(mainnet.fork_at(Epoch(epoch)).fork, fork, "epoch {epoch}");
        }
        assert_eq!(ForkSchedule::hoodi().fork_at(Epoch(0)).version, [0x50, 0, 9, 0x10]);
        assert_eq!(mainnet.fork_at(Epoch(411_392)).version, [6, 0, 0, 0]);
    }

    #[test]
    fn exits_are_signed_under_capella_on_every_chain_that_knows_deneb() {
        let mainnet = ForkSchedule::mainnet();
        let capella = compute_domain(domain::DOMAIN_VOLUNTARY_EXIT, [3, 0, 0, 0], mainnet.genesis_validators_root);
        for epoch in [0, 144_896, 200_000, 300_000, 411_392, u64::MAX] {
            assert_eq!(mainnet.exit_domain(Epoch(epoch)), capella, "epoch {epoch}");
        }
        let before = ForkSchedule::try_from(config()).unwrap();
        assert_eq!(before.exit_domain(Epoch(4)), before.domain(domain::DOMAIN_VOLUNTARY_EXIT, Epoch(4)));
        assert_ne!(before.exit_domain(Epoch(4)), before.exit_domain(Epoch(5)));
    }

    #[test]
    fn time_maps_to_slots_and_slots_to_epochs() {
        let schedule = ForkSchedule::try_from(config()).unwrap();
        assert_eq!(schedule.slot_at_time(999), None);
        assert_eq!(schedule.slot_at_time(1_000), Some(Slot(0)));
        assert_eq!(schedule.slot_at_time(1_003), Some(Slot(1)));
        assert_eq!(schedule.epoch_at(Slot(7)), Epoch(0));
        assert_eq!(schedule.epoch_at(Slot(8)), Epoch(1));
        assert_eq!(ForkSchedule::mainnet().epoch_at(Slot(u64::MAX)), Epoch(u64::MAX / 32));
    }

    #[test]
    fn a_schedule_that_no_chain_can_have_is_refused_with_the_reason() {
        assert!(matches!(refusal(|c| c.preset = "Mainnet".to_owned()), ScheduleError::Preset(_)));
        assert!(matches!(refusal(|c| c.forks[1].name = "gloas".to_owned()), ScheduleError::Fork { .. }));
        assert_eq!(refusal(|c| c.forks.clear()), ScheduleError::Count { given: 0 });
        assert_eq!(refusal(|c| c.seconds_per_slot = 0), ScheduleError::SecondsPerSlot);
        assert_eq!(refusal(|c| c.forks.swap(1, 2)), ScheduleError::Order { position: 1, expected: Fork::Altair });
        assert_eq!(refusal(|c| c.forks[0].epoch = 1), ScheduleError::Epoch { fork: Fork::Phase0, epoch: Epoch(1) });
        assert_eq!(refusal(|c| c.forks[1].epoch = 6), ScheduleError::Epoch { fork: Fork::Bellatrix, epoch: Epoch(5) });
        assert_eq!(refusal(|c| c.forks[2].version = [0, 0, 0, 1]), ScheduleError::Version { fork: Fork::Bellatrix });
        let nine = refusal(|c| {
            c.forks = Fork::ALL
                .iter()
                .chain(&Fork::ALL[..2])
                .map(|fork| ForkConfig { name: fork.name().to_owned(), version: [*fork as u8, 1, 0, 0], epoch: 0 })
                .collect();
        });
        assert_eq!(nine, ScheduleError::Count { given: 9 });
    }

    #[test]
    fn a_config_file_gives_a_schedule_and_every_key_is_checked() {
        let text = r#"
            preset = "minimal"
            genesis_validators_root = "0x05d79a31a8e69ecd78114c50ce73116be33027d8431b82fff6c0b3cd9c2cbb1f"
            genesis_time = 1700000000
            seconds_per_slot = 2
            forks = [
                { name = "phase0", version = "0x00000001", epoch = 0 },
                { name = "altair", version = "0x01000001", epoch = 0 },
            ]
        "#;
        let schedule: ForkSchedule = toml::from_str(text).unwrap();
        assert_eq!(schedule.preset(), Preset::Minimal);
        assert_eq!(schedule.fork_at(Epoch(0)).fork, Fork::Altair);
        assert!(toml::from_str::<ForkSchedule>(&format!("{text}\ngenesis_epoch = 1")).is_err());
    }
}
