//! Attacks that tests and devnets mount: never a dependency of a product crate.
