//! An honest ceremony of this product, whose every value the differential tests compute again.

use stkr_core::{
    ShareIndex, Threshold,
    dkg::{CeremonyDomain, Dealing, OneTimeSecret, Outcome, deal, finish},
};

/// All that passed in one ceremony, secrets included.
pub(crate) struct Ceremony {
    pub(crate) domain: CeremonyDomain,
    pub(crate) threshold: Threshold,
    pub(crate) secrets: Vec<OneTimeSecret>,
    pub(crate) dealings: Vec<Dealing>,
    pub(crate) outcomes: Vec<Outcome>,
}

pub(crate) const MESSAGE: [u8; 32] = [0xab; 32];

impl Ceremony {
    pub(crate) fn run(t: u8, n: u8) -> Self {
        let domain = CeremonyDomain {
            chain_id: 560_048,
            registry: alloy_primitives::Address::repeat_byte(0x5e),
            key_id: u64::MAX,
            attempt: u16::MAX,
        };
        let threshold = Threshold::new(t, n).unwrap();
        let secrets: Vec<_> = threshold.indices().map(|_| OneTimeSecret::random().unwrap()).collect();
        let keys: Vec<_> = secrets.iter().map(OneTimeSecret::public_key).collect();
        let members = || threshold.indices().zip(&secrets);
        let dealings: Vec<_> =
            members().map(|(dealer, secret)| deal(&domain, threshold, dealer, secret, &keys).unwrap()).collect();
        let outcomes =
            members().map(|(me, secret)| finish(&domain, threshold, me, secret, &dealings).unwrap()).collect();
        Self { domain, threshold, secrets, dealings, outcomes }
    }

    /// The last t members: indices that are neither consecutive from 1 nor all.
    pub(crate) fn signers(&self) -> impl Iterator<Item = ShareIndex> {
        self.threshold.indices().skip(usize::from(self.threshold.n() - self.threshold.t()))
    }
}
