//! Our DKG, share encryption and combining against implementations by others.

mod ceremony;
mod commonware;
mod noble;
