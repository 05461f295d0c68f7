//! Inputs for every parser that a duty passes on its way, on stable Rust: real documents, taken apart and put together
//! wrongly ([`mutate`]).
//!
//! For each input: no panic; what is accepted means the same after it is written and read again; memory and work stay in
//! proportion to its length. Work is counted in allocations and allocated bytes (which bounds memory too), so that a
//! verdict does not depend on how busy the machine is; a loop without allocations would be seen as a run that never ends.
//! A finding names seed and number of its input, with which `--only PARSER --seed S --input N` makes it again.
#![allow(clippy::print_stdout, reason = "counts and findings are this program's result")]

mod mutate;
mod seeds;
mod targets;

use clap::Parser;
use eyre::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;
use targets::Target;

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocated bytes that an input may cost: so many, and so many per byte of it.
const BYTES: (usize, usize) = (512 << 10, 256);
/// The same for allocations.
const ALLOCATIONS: (usize, usize) = (4_096, 2);
/// Of a hundred inputs so many are accepted at least, and refused: else the parser is not reached, or refuses nothing.
const LEAST_PERCENT: u64 = 1;

#[derive(Parser)]
#[command(name = "fuzz", about = "Wrong inputs for every parser of the duty path")]
struct Args {
    /// Inputs for each parser.
    #[arg(long, default_value_t = 20_000)]
    inputs: u64,
    /// What the inputs are made from; a new one unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the parsers whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Every so many parsers from this one on, as K/N: for runs side by side.
    #[arg(long, value_parser = part, default_value = "0/1")]
    part: (usize, usize),
    /// Only the input with this number; it is printed.
    #[arg(long)]
    input: Option<u64>,
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    numbers.filter(|(k, n)| k < n).ok_or_else(|| "write K/N with K below N".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Findings are reported below; the default hook would print a backtrace before.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("seed {seed}");
    println!("{:<22} {:>9} {:>9} {:>8} {:>12} {:>7}", "parser", "inputs", "accepted", "seeds", "bytes each", "s");
    let wanted = targets::all()?.into_iter().enumerate();
    let wanted = wanted.filter(|(at, target)| at % args.part.1 == args.part.0 && target.name.contains(&args.only));
    let (mut count, mut failed) = (0, Vec::new());
    for (_, mut target) in wanted {
        count += 1;
        if let Err(error) = fuzz(&mut target, args, seed) {
            println!("{}: {error:#}", target.name);
            failed.push(target.name);
        }
    }
    ensure!(count > 0, "no parser has such a name");
    if failed.is_empty() { Ok(()) } else { bail!("seed {seed}: {}", failed.join(", ")) }
}

fn fuzz(target: &mut Target, args: &Args, seed: u64) -> Result<()> {
    let start = Instant::now();
    let range = args.input.map_or(0..args.inputs, |one| one..one.saturating_add(1));
    let (mut accepted, mut bytes) = (0, 0);
    for number in range.clone() {
        let mut random = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let input = mutate::input(&target.corpus, &mut random);
        if args.input.is_some() {
            println!("{}", String::from_utf8_lossy(&input));
        }
        bytes += input.len() as u64;
        match one(target, &input) {
            Ok(true) => accepted += 1,
            Ok(false) => {}
            Err(found) => bail!("seed {seed}, input {number}: {found}\n{}", shown(&input)),
        }
    }
    let inputs = range.end - range.start;
    println!(
        "{:<22} {inputs:>9} {accepted:>9} {:>8} {:>12} {:>7.1}",
        target.name,
        target.corpus.len(),
        bytes / inputs.max(1),
        start.elapsed().as_secs_f64()
    );
    if args.input.is_none() {
        let least = inputs * LEAST_PERCENT / 100;
        ensure!(accepted >= least, "only {accepted} of {inputs} inputs were accepted: the fuzzer does not reach it");
        ensure!(inputs - accepted >= least, "all but {} inputs were accepted", inputs - accepted);
    }
    Ok(())
}

/// Whether the parser accepts the input; an error is a finding.
fn one(target: &mut Target, input: &[u8]) -> Result<bool, String> {
    let region = Region::new(COUNTING);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    let cost = region.change();
    // A panic first: what its report allocates is no waste of the parser's.
    let outcome = outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        format!("panic: {}", text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).into())).unwrap_or_default())
    })?;
    let most = |(fixed, each): (usize, usize)| fixed + each * input.len();
    if cost.bytes_allocated > most(BYTES) || cost.allocations > most(ALLOCATIONS) {
        let (bytes, count) = (cost.bytes_allocated, cost.allocations);
        return Err(format!("{bytes} bytes in {count} allocations for {} bytes of input", input.len()));
    }
    outcome
}

/// An input as text if it is some, else in hex; of a long one the beginning.
fn shown(input: &[u8]) -> String {
    match std::str::from_utf8(input) {
        Ok(text) => text.chars().take(4_000).collect(),
        Err(_) => input.iter().take(2_000).map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::mutate::Corpus;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// The allocator counts for the whole process: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(check: impl FnMut(&[u8]) -> Result<bool, String> + 'static) -> Target {
        Target { name: "test", corpus: Corpus::Text(vec!["seed".into()]), check: Box::new(check) }
    }

    #[test]
    fn panics_wrong_answers_and_waste_are_findings() {
        let _alone = alone();
        let mut panics = target(|_| panic!("at the disco"));
        assert!(one(&mut panics, b"").unwrap_err().contains("at the disco"));
        let mut lies = target(|_| Err("another meaning".into()));
        assert_eq!(one(&mut lies, b"").unwrap_err(), "another meaning");
        let mut wastes = target(|input| Ok(vec![0_u8; (BYTES.1 + 1) * input.len() + BYTES.0].len() > 1));
        assert!(one(&mut wastes, &[0; 100]).unwrap_err().contains("for 100 bytes of input"));
        let mut slow =
            target(|_| Ok((0..ALLOCATIONS.0 + 1).map(|at| at.to_string()).filter(|it| it == "x").count() == 0));
        assert!(one(&mut slow, b"").unwrap_err().contains("allocations"));
        assert_eq!(one(&mut target(|input| Ok(input.is_empty())), b""), Ok(true));
    }

    #[test]
    fn a_parser_that_is_never_reached_is_a_failure_and_so_is_one_that_refuses_nothing() {
        let _alone = alone();
        let args = Args { inputs: 200, seed: None, only: String::new(), part: (0, 1), input: None };
        assert!(fuzz(&mut target(|_| Ok(false)), &args, 1).unwrap_err().to_string().contains("does not reach"));
        assert!(fuzz(&mut target(|_| Ok(true)), &args, 1).is_err());
        let mut even = false;
        fuzz(
            &mut target(move |_| {
                even = !even;
                Ok(even)
            }),
            &args,
            1,
        )
        .unwrap();
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let _alone = alone();
        let corpus = Corpus::Text(vec!["abcdef".into()]);
        let make = |seed| mutate::input(&corpus, &mut StdRng::seed_from_u64(seed));
        assert!((0..50).all(|seed| make(seed) == make(seed)));
        assert!((0..50).any(|seed| make(seed) != make(seed + 1)));
    }
}
