//! Answers for the operator's own servers: they are worth what is at stake, and people hear of what holds one up.

use std::collections::BTreeMap;

use alloy::primitives::U256;
use stkr_chain::ChainError;
use stkr_chain::bindings::ServerRegistry;
use stkr_chain::endpoint::{ask_contract, first};

use super::Engine;
use crate::challenges::{self, ANSWER};
use crate::plan::Clock;

impl Engine {
    /// While an own server is challenged its answer may cost as much as its silence would: a seat's bond.
    pub(super) async fn raise_caps(&mut self, clock: &Clock) {
        let due = challenges::own_answers(&self.picture.view, clock, &self.parts.policy);
        let at_stake = match due.is_empty() {
            true => U256::ZERO,
            false => match self.seat_bond().await {
                Ok(bond) => bond,
                // The caps of the pass before stay.
                Err(error) => {
                    self.problems.push(format!("what an answer may cost is not known: {error}"));
                    return;
                }
            },
        };
        let per_gas = |gas: u64| u128::try_from(at_stake / U256::from(gas.max(1))).unwrap_or(u128::MAX);
        self.parts.intents.raise_caps(due.into_iter().map(|(step, gas)| (step, per_gas(gas))).collect());
    }

    /// Answers that do not leave, because gas is too dear or the account is empty.
    pub(super) fn tell_held_up(&mut self, clock: &Clock) -> Result<(), ChainError> {
        let view = &self.picture.view;
        if view.challenges.is_empty() && view.acknowledgements.is_empty() {
            return Ok(());
        }
        let answers = self.parts.intents.of_step(ANSWER)?.into_iter();
        let held = answers.filter(|it| !it.state.is_over() && !it.note.is_empty());
        let step = |key: String| key.rsplit_once('/').map(|(step, _)| step.to_owned());
        let notes: BTreeMap<String, String> = held.filter_map(|it| Some((step(it.key)?, it.note))).collect();
        self.problems.extend(challenges::held_up(view, clock, &notes));
        Ok(())
    }

    async fn seat_bond(&self) -> Result<U256, ChainError> {
        let bond = first(&self.parts.endpoints, async |endpoint| {
            let registry = ServerRegistry::new(self.parts.deployment.server_registry, endpoint.provider());
            ask_contract("reading what a seat's bond is", async { registry.seatBond().call().await }).await
        });
        Ok(U256::from(bond.await?))
    }
}
