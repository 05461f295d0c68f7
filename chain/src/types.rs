//! The contracts' enums: an ABI carries them as bare numbers, so the names live here.
//!
//! Order and spelling are those of `contracts/interfaces/*.sol`; a test reads them there and compares.

use alloy::primitives::U256;

/// What stakers put into one pool, in wei: 32 ETH (`IMicropools.POOL_SIZE`).
pub const POOL_SIZE: U256 = U256::from_limbs([13_553_255_926_290_448_384, 1, 0, 0]);

/// A number that the contracts' enum does not have: the contract is newer than this program, or it is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is no {name}; the contract is not the one this program was built for")]
pub struct UnknownVariant {
    /// Name of the Solidity enum.
    pub name: &'static str,
    /// What the contract answered.
    pub value: u8,
}

macro_rules! solidity_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value,)+ }

        impl $name {
            /// All variants, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Name as written in Solidity.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownVariant;
            fn try_from(value: u8) -> Result<Self, UnknownVariant> {
                match value {
                    $($value => Ok(Self::$variant),)+
                    _ => Err(UnknownVariant { name: stringify!($name), value }),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self { match value { $($name::$variant => $value),+ } }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.name()) }
        }
    };
}

solidity_enum! {
    /// Where a threshold server keeps its shares.
    ServerKind {
        /// A daemon; holds shares of validator and withdrawal keys.
        Online = 0,
        /// Air-gapped; holds shares of withdrawal keys only.
        Offline = 1,
    }
}

solidity_enum! {
    /// Where a server stands in its life.
    ServerStatus {
        /// No server has this id.
        None = 0,
        /// Registered and not approved yet.
        Registered = 1,
        /// May be drawn, counts at finalisation.
        Active = 2,
        /// Suspended by governance, with a reason on record.
        Suspended = 3,
        /// Announced that it leaves.
        Leaving = 4,
        /// Took its bond.
        Left = 5,
    }
}

solidity_enum! {
    /// What a key is for.
    KeyKind {
        /// Signs duties; shares on online servers only.
        Validator = 0,
        /// Owns the withdrawal credentials.
        Withdrawal = 1,
    }
}

solidity_enum! {
    /// Where a key stands in its life.
    KeyState {
        /// No key has this id.
        None = 0,
        /// Asked for; waits for its seed block.
        Requested = 1,
        /// Committee drawn; the ceremony runs.
        Drawn = 2,
        /// Finalised.
        Live = 3,
        /// Given up.
        Retired = 4,
        /// Given up because a forbidden group signature was shown.
        Burned = 5,
    }
}

solidity_enum! {
    /// Where the reshare of a key stands.
    ReshareState {
        /// None is under way.
        None = 0,
        /// Asked for; waits for its seed block.
        Requested = 1,
        /// Committee and dealers are drawn; the new shares are being dealt.
        Drawn = 2,
    }
}

solidity_enum! {
    /// Where a micropool stands in its life.
    PoolState {
        /// No pool has this id.
        None = 0,
        /// Takes stakes.
        Open = 1,
        /// Has its 32 ETH.
        Full = 2,
        /// Has its key and has ordered its deposit.
        KeyReady = 3,
        /// Has sent 1 ETH; the challenge window runs.
        Predeposited = 4,
        /// Has sent all 32 ETH.
        Active = 5,
        /// Pays everybody back.
        Cancelled = 6,
    }
}

/// Name of the `value`-th variant of the Solidity enum `name`; nothing for an enum or a value we do not know.
#[must_use]
pub(crate) fn variant_name(name: &str, value: u8) -> Option<&'static str> {
    match name {
        "ServerKind" => ServerKind::try_from(value).ok().map(ServerKind::name),
        "ServerStatus" => ServerStatus::try_from(value).ok().map(ServerStatus::name),
        "KeyKind" => KeyKind::try_from(value).ok().map(KeyKind::name),
        "KeyState" => KeyState::try_from(value).ok().map(KeyState::name),
        "ReshareState" => ReshareState::try_from(value).ok().map(ReshareState::name),
        "PoolState" => PoolState::try_from(value).ok().map(PoolState::name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variants of `enum name { A, B }` in Solidity source.
    fn solidity_variants(source: &str, name: &str) -> Vec<String> {
        let start = source.find(&format!("enum {name} {{")).unwrap();
        let body = &source[start..];
        let body = &body[body.find('{').unwrap() + 1..body.find('}').unwrap()];
        body.split(',').map(|variant| variant.trim().to_owned()).filter(|variant| !variant.is_empty()).collect()
    }

    #[test]
    fn enums_have_the_variants_and_the_order_of_the_contracts() {
        let servers = include_str!("../../contracts/interfaces/IServerRegistry.sol");
        let keys = include_str!("../../contracts/interfaces/IKeyRegistry.sol");
        let resharing = include_str!("../../contracts/interfaces/IResharing.sol");
        let pools = include_str!("../../contracts/interfaces/IMicropools.sol");
        let names = |count: u8, name: &str| -> Vec<String> {
            (0..count).map(|value| variant_name(name, value).unwrap().to_owned()).collect()
        };
        assert_eq!(solidity_variants(servers, "ServerKind"), names(2, "ServerKind"));
        assert_eq!(solidity_variants(servers, "ServerStatus"), names(6, "ServerStatus"));
        assert_eq!(solidity_variants(keys, "KeyKind"), names(2, "KeyKind"));
        assert_eq!(solidity_variants(keys, "KeyState"), names(6, "KeyState"));
        assert_eq!(solidity_variants(resharing, "ReshareState"), names(3, "ReshareState"));
        assert_eq!(solidity_variants(pools, "PoolState"), names(7, "PoolState"));
        assert_eq!(KeyState::try_from(6), Err(UnknownVariant { name: "KeyState", value: 6 }));
    }
}
