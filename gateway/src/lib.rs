//! `stkr-gateway`: what a provider's validator client takes for a Web3Signer. No key is in it: a committee of threshold
//! servers signs, and nobody ever holds the validator key.
//!
//! ```text
//! validator client --HTTP--> decode, root --> EIP-3076, one fsync for all that wait --> duty key signs the request
//!                                                                                              |
//!    signature <-- verify <-- combine the first t <-- partials in envelopes <-- all servers at once, one call each
//! ```
//!
//! The gateway is trusted by its provider and by nobody else: every server judges each request for itself. Its own slashing
//! protection is what keeps an honest provider out of trouble: two signatures of its duty key over conflicting duties are
//! evidence against it, so a conflict is refused before that key signs.
//!
//! | module | content |
//! |---|---|
//! | [`api`], [`accept`] | Web3Signer's ETH2 API and the batch call |
//! | [`signing`] | from a request to a verified signature or a refusal with a reason |
//! | [`quiet`] | nothing is signed before it is known that no other gateway signs with the same duty key |
//! | [`recorder`] | slashing protection, committed in groups |
//! | [`verifier`] | combined signatures over one root, verified together |
//! | [`line`](mod@line) | the queue of one server: what waits travels in one call |
//! | [`keys`], [`follow`] | which keys are served, as the chain assigns them |
//! | [`store`], [`export`] | requests, envelopes and evidence, kept and bounded, and as others read them |
//! | [`report`] | hands evidence to relayers |
//! | [`app`], [`setup`], [`history`], [`config`](mod@config) | wiring and commands |

pub mod accept;
pub mod api;
pub mod app;
pub mod clock;
pub mod config;
pub mod export;
pub mod follow;
pub mod history;
pub mod keys;
pub mod line;
pub mod metrics;
pub mod quiet;
pub mod recorder;
pub mod report;
pub mod setup;
pub mod signing;
pub mod store;
pub mod verifier;
