//! `stkr-server offline …`: a server on a machine without network.
//!
//! It is the server that [`crate::ceremony`] describes, with the same database; what differs is where messages and facts come from:
//! files that somebody carries. Whoever made them is not trusted. What the chain says comes with proofs that lead to a block's hash, and
//! that hash a person compares with another source, once for each ceremony. Nothing is signed before a person has read what.

mod change;
mod erase;
mod reshare;
mod vote;

pub use erase::EraseArgs;
pub use vote::VoteArgs;

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use eyre::WrapErr as _;
use serde::Serialize;
use stkr_chain::Deployment;
use stkr_chain::facts::reshare::ReshareFacts;
use stkr_chain::facts::{CeremonyFacts, ProvenBlock, ProvenCeremony};
use stkr_chain::types::KeyKind;
use stkr_core::{ShareIndex, Threshold};
use stkr_node::exit::Failure;
use stkr_node::qr::Qr;
use stkr_node::secrets;
use stkr_protocol::api::{AdvanceResponse, FailureReport};
use stkr_protocol::ceremony::{Board, Context, MemberId};
use stkr_protocol::messages::{Round, SignedMessage};
use stkr_protocol::offline::reshare::{Committees, ToReshare};
use stkr_protocol::offline::{About, AnswerFile, MAX_FILE, Request, RequestFile, ToChange, from_json, is_kind};
use stkr_protocol::registration;
use stkr_protocol::{ProtocolDomain, SignerKey};

use crate::ceremony::{Ceremonies, Drawn, seat};
use crate::config::FilesConfig;
use crate::seal::Sealer;
use crate::setup::{NewSigner, RegisterArgs, found_signer, make_offline_secrets, make_signer, store_key};
use crate::signers::{self, Keys, SignerKeys};
use crate::store::{Confirmed, Owner, Store};

/// A request as this program reads it.
type Asked = RequestFile<CeremonyFacts>;

/// Its copy of the deployment file: addresses that must not change with a file that comes in later.
const DEPLOYMENT: &str = "deployment.json";
/// The registry wants some text there.
const ENDPOINT: &str = "offline";

/// A server without network: takes part in keys by files that are carried to it and back
#[derive(Clone, Debug, clap::Subcommand)]
pub enum OfflineCommand {
    /// Make the keys and the database of a new offline server; prints what to register
    Init {
        /// Folder of the new server; made with mode 0700
        #[arg(long)]
        dir: PathBuf,
        /// Deployment file of the contracts; compare its addresses with a source of yours first
        #[arg(long)]
        deployment: PathBuf,
    },
    /// Make this server's next signer key and print what tells the registry of it, as JSON
    NewSigner {
        /// Folder of the server
        #[arg(long)]
        dir: PathBuf,
        /// Account that will send the change: the operator's, as the registry knows it
        #[arg(long)]
        operator: Address,
        /// Make no new key, and print again what this one needs, which was made before
        #[arg(long)]
        signer: Option<Address>,
    },
    /// Print the arguments with which an operator registers this server, as JSON
    RegisterArgs {
        /// Folder of the server
        #[arg(long)]
        dir: PathBuf,
        /// Account that will send the registration
        #[arg(long)]
        operator: Address,
    },
    /// Print the ceremonies and reshares that this server takes part in, as JSON
    Status {
        /// Folder of the server
        #[arg(long)]
        dir: PathBuf,
    },
    /// Check a request and say what answering it would sign; changes nothing
    Show {
        /// Folder of the server
        #[arg(long)]
        dir: PathBuf,
        /// The request
        file: PathBuf,
    },
    /// Answer a request: sign what is due, and write the answer
    Answer(AnswerArgs),
    /// Erase shares whose time is over, by a file that proves which committees the key has
    Erase(EraseArgs),
    /// Sign that another member of a committee is silent, and print the vote as JSON
    VoteSilent(VoteArgs),
}

/// Arguments of `offline answer`.
#[derive(Clone, Debug, clap::Args)]
pub struct AnswerArgs {
    /// Folder of the server
    #[arg(long)]
    pub dir: PathBuf,
    /// The request
    pub file: PathBuf,
    /// File to write the answer to; must not exist
    #[arg(long)]
    pub out: PathBuf,
    /// Hash of the block that the request names, from a source other than the relayer; asked for on a terminal if it is not given
    #[arg(long, value_name = "HASH")]
    pub block: Option<B256>,
    /// Do not ask before signing. The block's hash is still needed for the first request of a ceremony
    #[arg(long)]
    pub yes: bool,
    /// Also as a QR code, if it fits in one: on the terminal, or a PNG file to write
    #[arg(long, value_name = "PNG", num_args = 0..=1, default_missing_value = "-")]
    pub qr: Option<PathBuf>,
}

/// What `init` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Initialised {
    signer: Address,
    kind: &'static str,
    next: String,
}

/// A ceremony in `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CeremonyLine {
    key_id: String,
    attempt: String,
    committee: Vec<u32>,
    threshold: u8,
    deadline: String,
    confirmed_in: ProvenBlock,
    signed: Vec<&'static str>,
    has_share: bool,
}

/// A reshare in `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReshareLine {
    key_id: String,
    committee_epoch: String,
    attempt: String,
    confirmed_in: ProvenBlock,
    signed: Vec<&'static str>,
    has_share: bool,
}

/// A share in `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShareLine {
    key_id: String,
    committee_epoch: String,
    attempt: String,
    index: String,
}

/// What `status` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Whose keys it has, that of `signer.key` first.
    signers: Vec<Address>,
    chain_id: u64,
    key_registry: Address,
    ceremonies: Vec<CeremonyLine>,
    reshares: Vec<ReshareLine>,
    shares: Vec<ShareLine>,
}

/// What `show` and `answer` print.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    key_id: String,
    attempt: String,
    /// The block whose hash a person has to compare, or has compared.
    block: ProvenBlock,
    /// Whether a person has compared it.
    confirmed: bool,
    /// What is signed with this answer, round by round.
    signs: Vec<&'static str>,
    /// Where this server stands afterwards; nothing from `show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    /// Why no key will come of it, as far as this server saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<PathBuf>,
}

impl OfflineCommand {
    /// Runs it.
    ///
    /// # Errors
    /// One sentence on what is wrong with arguments, files or state; then nothing has changed.
    pub fn run(self) -> eyre::Result<()> {
        match self {
            Self::Init { dir, deployment } => print(&init(&dir, &deployment)?),
            Self::NewSigner { dir, operator, signer } => print(&new_signer(&dir, operator, signer)?),
            Self::RegisterArgs { dir, operator } => print(&register_args(&dir, operator)?),
            Self::Status { dir } => print(&Machine::open(&dir)?.status()?),
            Self::Show { dir, file } => show(&dir, &file),
            Self::Answer(args) => answer(&args),
            Self::Erase(args) => {
                let (machine, text) = (Machine::open(&args.dir)?, read_file(&args.file)?);
                print(&erase::erase(&machine, &args, &text, std::io::stdin().is_terminal())?)
            }
            Self::VoteSilent(args) => {
                let at_terminal = std::io::stdin().is_terminal();
                print(&vote::vote(&Machine::open(&args.dir)?, &args, at_terminal)?)
            }
        }
    }
}

fn print(value: &impl Serialize) -> eyre::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(value)?)?)
}

/// For the person at the machine; stdout is for programs.
fn say(text: &str) -> eyre::Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "{text}")?)
}

fn files(dir: &Path) -> FilesConfig {
    FilesConfig::default().below(dir)
}

fn init(dir: &Path, deployment_file: &Path) -> eyre::Result<Initialised> {
    let deployment = Deployment::load(deployment_file).map_err(Failure::usage)?;
    let dir = std::path::absolute(dir)?;
    let files = files(&dir);
    if dir.join(DEPLOYMENT).exists() {
        let reason = format!("{} holds a server already; init makes new servers only", dir.display());
        return Err(Failure::usage(reason).into());
    }
    // What an init that was cut short leaves is never taken up again: nothing tells it from a server that lost a file.
    let left = [&files.store_password, &files.store_keystore, &files.signer_key, &files.database];
    if let Some(file) = left.into_iter().find(|file| file.exists()) {
        let reason = format!(
            "{} is there and {DEPLOYMENT} is not: an earlier init did not get to its end, or the file was lost; if no server of this \
             folder was ever registered, delete the folder and run init again, else put {DEPLOYMENT} back",
            file.display()
        );
        return Err(Failure::usage(reason).into());
    }
    secrets::create_private_folder(&dir)?;
    let signer = make_offline_secrets(&files)?;
    stkr_kill_points::may_end_at("offline.init_without_database");
    // Born at block 0: the signer key is new, so nothing can have been said with it before.
    drop(Store::open(&files.database, &owner(signer.address(), &deployment), 0)?);
    stkr_kill_points::may_end_at("offline.init_without_deployment");
    // Last: without it there is no server here, and what a try left behind is named by the next.
    secrets::write_new(&dir.join(DEPLOYMENT), serde_json::to_string_pretty(&deployment)?.as_bytes())?;
    let next = format!("stkr-server offline register-args --dir {} --operator <your account>", dir.display());
    Ok(Initialised { signer: signer.address(), kind: "offline", next })
}

const fn owner(signer: Address, deployment: &Deployment) -> Owner {
    Owner { signer, chain_id: deployment.chain_id, key_registry: deployment.key_registry }
}

fn deployment_of(dir: &Path) -> Result<Deployment, Failure> {
    Deployment::load(dir.join(DEPLOYMENT)).map_err(Failure::usage)
}

fn register_args(dir: &Path, operator: Address) -> eyre::Result<RegisterArgs> {
    let deployment = deployment_of(dir)?;
    let signer = signers::read_key(&files(dir).signer_key)?;
    let proof = registration::signer_proof(&signer, deployment.chain_id, deployment.server_registry, operator);
    Ok(RegisterArgs {
        signer: signer.address(),
        tls_fingerprint: B256::ZERO.to_string(),
        kind: "offline",
        endpoint: ENDPOINT.to_owned(),
        signer_proof: format!("0x{}", hex::encode(proof)),
    })
}

/// The key is this server's because it was made here: it has never said anything, so it may speak in what is drawn from now on and in
/// what was drawn before.
fn new_signer(dir: &Path, operator: Address, signer: Option<Address>) -> eyre::Result<NewSigner> {
    let files = files(&std::path::absolute(dir)?);
    let machine = Machine::open(dir)?;
    let (file, signer) = match signer {
        Some(signer) => found_signer(&files, signer)?,
        None => make_signer(&files, |signer| {
            machine.store.own_signer(signer, 0)?;
            stkr_kill_points::may_end_at("offline.signer_without_key");
            Ok(())
        })?,
    };
    stkr_kill_points::may_end_at("offline.signer_unsaid");
    Ok(NewSigner::of(&signer, file, &machine.deployment, operator))
}

fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    stkr_files::read(file, MAX_FILE).map_err(|error| Failure::usage(format!("request {error}")))
}

/// Reads a request whole; nothing in it is checked yet but its form.
fn request(file: &Path, text: &[u8]) -> Result<Asked, Failure> {
    from_json::<Request, _>(text).map_err(|error| refused(file, &error))
}

fn refused(file: &Path, reason: &impl std::fmt::Display) -> Failure {
    Failure::refused(format!("{}: {reason}", file.display()))
}

/// An offline server with its keys.
struct Machine {
    deployment: Deployment,
    keys: Keys,
    store: Store,
}

/// What a request would have this server do.
struct Plan {
    drawn: Drawn,
    about: About,
    messages: Vec<SignedMessage>,
    /// As the file proves it, or as a person confirmed it before.
    confirmed: Confirmed,
    is_confirmed: bool,
    /// Who asked for the key, and whether that is the withdrawal keys' contract; nothing once it was confirmed.
    consumer: Option<(Address, bool)>,
    me: ShareIndex,
    /// Messages of each round, with those of the request.
    came: BTreeMap<Round, usize>,
    signs: Vec<Round>,
}

impl Machine {
    fn open(dir: &Path) -> eyre::Result<Self> {
        let (deployment, files) = (deployment_of(dir)?, files(dir));
        let (found, store_key) = (signers::read(&files)?, store_key(&files)?);
        // Opening makes a new database where none is; a server that forgot what it signed must not start as a new one.
        if !files.database.is_file() {
            let reason = format!(
                "{} is missing: without it this server does not know what it signed; restore it from the newest backup, or make a new server",
                files.database.display()
            );
            return Err(Failure::not_safe(reason).into());
        }
        let first = found.first().map(SignerKey::address).unwrap_or_default();
        let store = Store::open(&files.database, &owner(first, &deployment), 0).map_err(Failure::not_safe)?;
        // No chain says here whose a key is: only what was made here speaks.
        let keys = Keys::new(signers::remembered(&store, found)?, store_key);
        Ok(Self { deployment, keys, store })
    }

    fn status(&self) -> eyre::Result<Status> {
        let mut ceremonies = Vec::new();
        for it in self.store.confirmed()? {
            let rows = self.store.ceremonies(it.key_id, it.attempt)?;
            let index = rows.iter().find(|row| row.committee == it.committee).map(|row| row.index);
            let messages = self.store.messages(it.key_id, it.attempt, &it.committee)?;
            let own = messages.iter().filter(|message| Some(message.index) == index);
            let shares = self.store.shares(it.key_id)?;
            ceremonies.push(CeremonyLine {
                key_id: it.key_id.to_string(),
                attempt: it.attempt.to_string(),
                threshold: it.threshold,
                deadline: it.deadline.to_string(),
                confirmed_in: it.block,
                signed: own.map(|message| message.round().name()).collect(),
                has_share: shares
                    .iter()
                    .any(|share| (share.origin.committee_epoch, share.origin.attempt) == (0, it.attempt)),
                committee: it.members.iter().map(|member| member.server_id).collect(),
            });
        }
        let mut reshares = Vec::new();
        for it in self.store.confirmed_reshares()? {
            let facts: ReshareFacts = serde_json::from_str(&it.facts)?;
            let proven = facts.verify(&self.deployment, it.id.key_id)?;
            reshares.push(reshare::line(self, &it, &proven)?);
        }
        let shares = self.store.all_shares()?.into_iter().map(|(key_id, share)| ShareLine {
            key_id: key_id.to_string(),
            committee_epoch: share.origin.committee_epoch.to_string(),
            attempt: share.origin.attempt.to_string(),
            index: share.index.get().to_string(),
        });
        Ok(Status {
            reshares,
            shares: shares.collect(),
            signers: self.keys.signers().us().signers.clone(),
            chain_id: self.deployment.chain_id,
            key_registry: self.deployment.key_registry,
            ceremonies,
        })
    }

    /// Checks everything in a request and says what it would have this server sign. Changes nothing.
    fn plan(&self, asked: &Asked) -> Result<Plan, Failure> {
        let about = asked.about;
        let domain = self.deployment.protocol_domain();
        if about.domain() != domain {
            return Err(self.elsewhere(&about.domain()));
        }
        let known = self.store.confirmed().map_err(Failure::not_safe)?;
        let same =
            |it: &&Confirmed| (it.key_id, it.attempt, it.committee) == (about.key_id, about.attempt, about.committee);
        let mut proven = None;
        let (confirmed, is_confirmed) = match known.iter().find(same) {
            Some(it) => (it.clone(), true),
            None => {
                let facts = self.prove(asked)?;
                let confirmed = Confirmed::of(&facts);
                proven = Some(facts.key);
                (confirmed, false)
            }
        };
        let context = confirmed.context(domain).map_err(Failure::not_safe)?;
        let me = self.seat(&context, about.server)?;
        let stored = self.store.messages(about.key_id, about.attempt, &about.committee).map_err(Failure::not_safe)?;
        let (came, signs) = due(&context, me, stored, &asked.messages)?;
        let drawn = Drawn { context, committee: about.committee, begun: confirmed.block.number };
        let consumer = proven.as_ref().map(|key| (key.consumer, key.consumer == self.deployment.withdrawal_keys()));
        let messages = asked.messages.clone();
        Ok(Plan { drawn, about, messages, confirmed, is_confirmed, consumer, me, came, signs })
    }

    fn elsewhere(&self, asked: &ProtocolDomain) -> Failure {
        let ours = self.deployment.protocol_domain();
        Failure::refused(format!(
            "the request is for chain {}, KeyRegistry {}; this server belongs to chain {}, KeyRegistry {}",
            asked.chain_id, asked.key_registry, ours.chain_id, ours.key_registry
        ))
    }

    /// The ceremony as the file proves it, if nothing that was confirmed before speaks against it.
    fn prove(&self, asked: &Asked) -> Result<ProvenCeremony, Failure> {
        let about = &asked.about;
        let proven = asked.facts.verify(&self.deployment, about.key_id).map_err(Failure::refused)?;
        if (proven.key.attempt, proven.key.commitment) != (about.attempt, about.committee) {
            return Err(Failure::refused(format!(
                "the request speaks of attempt {} of key {}, and proves attempt {} or another committee; fetch it again",
                about.attempt, about.key_id, proven.key.attempt
            )));
        }
        if proven.key.kind != KeyKind::Withdrawal {
            return Err(Failure::refused(format!(
                "key {} is a validator key, and an offline server takes part in withdrawal keys only",
                about.key_id
            )));
        }
        Self::check_block(&proven.block, &self.store.confirmed_blocks().map_err(Failure::not_safe)?)?;
        Ok(proven)
    }

    /// That no block which was confirmed before speaks against this one.
    fn check_block(block: &ProvenBlock, known: &[ProvenBlock]) -> Result<(), Failure> {
        if let Some(it) = known.iter().find(|it| it.number == block.number && it.hash != block.hash) {
            return Err(Failure::not_safe(format!(
                "block {} has hash {} in this request and {} in one that was confirmed before; both cannot be final: find out which \
                 is, from two sources, before anything else is signed",
                block.number, block.hash, it.hash
            )));
        }
        if let Some(newest) = known.iter().max_by_key(|it| it.number)
            && block.number < newest.number
        {
            return Err(Failure::refused(format!(
                "the request is of block {}, and block {} was confirmed here before: it is stale; fetch a new one",
                block.number, newest.number
            )));
        }
        Ok(())
    }

    fn seat(&self, context: &Context, server: u32) -> Result<ShareIndex, Failure> {
        let signers = self.keys.signers();
        let me = seat(context, signers.us());
        let mine = me.and_then(|index| context.member(index)).map(|member| member.server_id);
        match (me, mine) {
            (Some(me), Some(id)) if id == server => Ok(me),
            (Some(_), Some(id)) => Err(Failure::refused(format!(
                "the request is for server {server}, and this is server {id}; carry it to the other machine"
            ))),
            _ => Err(Failure::refused(format!(
                "this server (signer {}) is no member of the committee of key {}; the request is for server {server}",
                spoken(&signers),
                context.key_id()
            ))),
        }
    }
}

/// Of whom the contract is that asked for a key, in words.
const fn whose(is_ours: bool) -> &'static str {
    if is_ours {
        "the withdrawal keys' contract of this deployment"
    } else {
        "NOT the withdrawal keys' contract of this deployment"
    }
}

/// The signers, as a sentence names them.
fn spoken(signers: &SignerKeys) -> String {
    signers.us().signers.iter().map(Address::to_string).collect::<Vec<_>>().join(" or ")
}

/// Messages of each round, and the rounds for which this member would sign now.
fn due(
    context: &Context,
    me: ShareIndex,
    stored: Vec<SignedMessage>,
    brought: &[SignedMessage],
) -> Result<(BTreeMap<Round, usize>, Vec<Round>), Failure> {
    let mut board = Board::new(context.clone());
    for message in stored {
        board.accept(message).map_err(Failure::not_safe)?;
    }
    // The dealing is signed with its commitment and lies here unseen until all members signed one set.
    let seen = |round| round != Round::Dealing || board.missing(Round::CommitmentSet).is_empty();
    let said = |round: &Round| board.message(*round, me).is_some() && seen(*round);
    let before: Vec<Round> = Round::ALL.into_iter().filter(said).collect();
    for message in brought {
        // An online server ignores what its caller made up; here a person carries it, and should hear that somebody did.
        board
            .accept(message.clone())
            .map_err(|error| Failure::refused(format!("a message in the request is not authentic: {error}")))?;
    }
    let complete = |round| board.missing(round).iter().all(|missing| *missing == me);
    let mut signs = Vec::new();
    for round in Round::ALL {
        if !before.contains(&round) {
            signs.push(round);
        }
        if !complete(round) {
            break;
        }
    }
    let n = usize::from(context.threshold().n());
    let came = Round::ALL.into_iter().map(|round| (round, n.saturating_sub(board.missing(round).len()))).collect();
    Ok((came, signs))
}

impl Plan {
    /// What is about to happen, in words.
    fn summary(&self) -> String {
        let context = &self.drawn.context;
        let threshold = context.threshold();
        let (key, attempt, block) = (context.key_id(), context.attempt(), &self.confirmed.block);
        let mut lines = vec![format!(
            "Making of withdrawal key {key} (attempt {attempt}), {} of {} shares sign; you are member {} (server {}).",
            threshold.t(),
            threshold.n(),
            self.me.get(),
            self.about.server
        )];
        lines.push(format!("Chain {}, KeyRegistry {}.", self.about.chain_id, self.about.key_registry));
        if let Some((consumer, is_ours)) = self.consumer {
            let whose = whose(is_ours);
            lines.push(format!("The key was asked for by {consumer}, {whose}; it has no pool before it is made."));
        }
        let members: Vec<String> = context.committee().iter().map(ToString::to_string).collect();
        lines.push(format!("Committee, servers in index order: {}.", members.join(", ")));
        lines.push(format!("It must be finished by {}.", date(self.confirmed.deadline)));
        let counts = self.came.iter().map(|(round, came)| format!("{came} of {} {round}", threshold.n()));
        lines.push(format!("Messages so far: {}.", counts.collect::<Vec<_>>().join(", ")));
        lines.extend([signs_line(&self.signs), proven_line(block, self.is_confirmed)]);
        lines.join("\n")
    }

    fn answered(&self) -> Answered {
        Answered {
            key_id: self.about.key_id.to_string(),
            attempt: self.about.attempt.to_string(),
            block: self.confirmed.block,
            confirmed: self.is_confirmed,
            signs: self.signs.iter().map(|round| round.name()).collect(),
            phase: None,
            failure: None,
            answer: None,
        }
    }

    /// That a person compared the hash, by `given` or, `at_terminal`, by what it types.
    fn confirm_block(&self, given: Option<B256>, at_terminal: bool) -> eyre::Result<()> {
        if given.is_none() && self.is_confirmed {
            return Ok(());
        }
        compare_block(&self.confirmed.block, given, at_terminal)
    }

    fn consent(&self, yes: bool, at_terminal: bool) -> eyre::Result<()> {
        consent(yes || self.signs.is_empty(), at_terminal)
    }
}

/// What an answer will sign, in words.
fn signs_line(rounds: &[impl ToString]) -> String {
    if rounds.is_empty() {
        return "Nothing new is to be signed: the answer repeats what this server said.".to_owned();
    }
    format!("The answer signs and shows: {}.", rounds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// Which block proves a file, in words, and its hash in a line of its own.
fn proven_line(block: &ProvenBlock, is_confirmed: bool) -> String {
    let compared =
        if is_confirmed { "you compared it before" } else { "COMPARE IT with a source other than the relayer" };
    format!("Proven by block {} of {}: {compared}.\n  {}", block.number, date(block.timestamp), block.hash)
}

/// That a person compared the hash of `block`, by `given` or, `at_terminal`, by what it types.
fn compare_block(block: &ProvenBlock, given: Option<B256>, at_terminal: bool) -> eyre::Result<()> {
    if let Some(given) = given
        && given != block.hash
    {
        return Err(Failure::refused(format!(
            "the request proves block {}, {}, and you say that it is {given}: look it up by its number; if they still differ, the \
             request is made up and must not be answered",
            block.number, block.hash
        ))
        .into());
    }
    if given.is_some() {
        return Ok(());
    }
    let wanted = "this is new here: look block up elsewhere and give its hash with --block";
    if !at_terminal {
        return Err(Failure::usage(format!("{wanted} (block {})", block.number)).into());
    }
    let typed =
        ask(&format!("Type the last 8 digits of the hash of block {} as the other source shows it", block.number))?;
    match block.hash.to_string().ends_with(&typed.to_lowercase()) && typed.len() == 8 {
        true => Ok(()),
        false => Err(Failure::refused("those are other digits than the request proves; nothing was signed").into()),
    }
}

fn consent(given: bool, at_terminal: bool) -> eyre::Result<()> {
    if given {
        return Ok(());
    }
    if !at_terminal {
        return Err(Failure::usage("nobody can be asked here; read what `offline show` says and give --yes").into());
    }
    match ask("Sign this? yes or no")?.as_str() {
        "yes" => Ok(()),
        _ => Err(Failure::refused("nothing was signed").into()),
    }
}

fn ask(question: &str) -> eyre::Result<String> {
    write!(std::io::stderr().lock(), "{question}: ")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// For people, UTC.
fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|it| time::OffsetDateTime::from_unix_timestamp(it).ok());
    moment.map_or_else(
        || format!("unix time {seconds}"),
        |it| {
            let (day, clock) = (it.date(), it.time());
            format!("{day} {:02}:{:02}:{:02} UTC", clock.hour(), clock.minute(), clock.second())
        },
    )
}

fn show(dir: &Path, file: &Path) -> eyre::Result<()> {
    let (machine, text) = (Machine::open(dir)?, read_file(file)?);
    if is_kind::<ToChange>(&text) {
        return print(&change::show(&machine, file, &text)?);
    }
    if is_kind::<ToReshare>(&text) {
        return print(&reshare::show(&machine, file, &text)?);
    }
    if is_kind::<Committees>(&text) {
        return print(&erase::show(&machine, file, &text)?);
    }
    let plan = machine.plan(&request(file, &text)?)?;
    say(&plan.summary())?;
    print(&plan.answered())
}

fn answer(args: &AnswerArgs) -> eyre::Result<()> {
    if args.out.exists() {
        return Err(Failure::usage(format!("{} exists already; name a new file with --out", args.out.display())).into());
    }
    let machine = Machine::open(&args.dir)?;
    let (text, at_terminal) = (read_file(&args.file)?, std::io::stdin().is_terminal());
    if is_kind::<ToChange>(&text) {
        return print(&change::answer(&machine, args, &text, at_terminal)?);
    }
    if is_kind::<ToReshare>(&text) {
        return print(&reshare::answer(&machine, args, &text, at_terminal)?);
    }
    let plan = machine.plan(&request(&args.file, &text)?)?;
    say(&plan.summary())?;
    plan.confirm_block(args.block, at_terminal)?;
    plan.consent(args.yes, at_terminal)?;
    if !plan.is_confirmed {
        machine.store.confirm(&plan.confirmed)?;
    }
    stkr_kill_points::may_end_at("offline.confirmed");
    let response = machine.advance(&plan)?;
    let (phase, failure) = (response.phase.name(), response.failure.clone());
    let file = machine.sign_answer(&plan, response)?;
    hand_out(args, &file)?;
    let answer = Some(args.out.clone());
    print(&Answered { phase: Some(phase), failure, answer, confirmed: true, ..plan.answered() })
}

/// Writes the answer; what does not fit in a code is in the file all the same.
fn hand_out(args: &AnswerArgs, file: &impl Serialize) -> eyre::Result<()> {
    stkr_kill_points::may_end_at("offline.answer_unwritten");
    secrets::write_new(&args.out, serde_json::to_string_pretty(file)?.as_bytes()).wrap_err("write the answer")?;
    stkr_kill_points::may_end_at("offline.answer_written");
    let Some(to) = &args.qr else { return Ok(()) };
    match Qr::new(&serde_json::to_vec(file)?) {
        Ok(code) => Ok(code.show(to)?),
        Err(error) => say(&format!("The answer is in {}, and in no QR code: {error}.", args.out.display())),
    }
}

impl Machine {
    fn advance(&self, plan: &Plan) -> eyre::Result<AdvanceResponse> {
        let sealer = Sealer::new(&self.keys.store_key);
        let ceremonies = Ceremonies {
            store: &self.store,
            signers: &self.keys.signers(),
            sealer: &sealer,
            store_key: &self.keys.store_key,
        };
        Ok(ceremonies.advance(&plan.drawn, plan.messages.clone())?)
    }

    /// As the member that the committee names, like everything in it.
    fn sign_answer(&self, plan: &Plan, response: AdvanceResponse) -> eyre::Result<AnswerFile> {
        let (signers, context) = (self.keys.signers(), &plan.drawn.context);
        let signer = context.member(plan.me).and_then(|member| signers.key(member.signer));
        let signer = signer.ok_or_else(|| Failure::refused("the committee names a signer whose key is not here"))?;
        Ok(AnswerFile::sign(plan.about, response, signer)?)
    }
}

impl Confirmed {
    fn of(proven: &ProvenCeremony) -> Self {
        Self {
            key_id: proven.key.id,
            attempt: proven.key.attempt,
            committee: proven.key.commitment,
            threshold: proven.key.threshold,
            members: proven.context.members().to_vec(),
            deadline: proven.key.mark,
            block: proven.block,
        }
    }

    fn context(&self, domain: stkr_protocol::ProtocolDomain) -> eyre::Result<Context> {
        let n = u8::try_from(self.members.len())?;
        let members: Vec<MemberId> = self.members.clone();
        Ok(Context::new(domain, self.key_id, self.attempt, Threshold::new(self.threshold, n)?, members)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloy::consensus::Header;
    use alloy::primitives::{Bytes, U256, keccak256};
    use alloy::rlp;
    use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
    use alloy::sol_types::SolValue as _;
    use alloy::trie::proof::ProofRetainer;
    use alloy::trie::{HashBuilder, Nibbles, TrieAccount};
    use stkr_chain::reader::committee_hash;
    use stkr_chain::types::KeyState;
    use stkr_core::keystore::StoreKey;
    use stkr_node::exit::Exit;
    use stkr_protocol::messages::{Body, OneTimeKeyBody};
    use stkr_protocol::offline::{Mark, VERSION};

    use super::*;

    /// Server ids in index order; this server has the last seat.
    const COMMITTEE: [u32; 3] = [4, 9, 5];
    const MINE: u32 = 5;

    pub(crate) fn deployment() -> Deployment {
        let at = |byte: u8| Address::repeat_byte(byte);
        Deployment {
            chain_id: 31_337,
            access_manager: at(1),
            server_registry: at(2),
            provider_registry: at(3),
            key_registry: at(4),
            court: at(5),
            micropools: at(6),
            deposit_contract: at(7),
            genesis_fork_version: [0; 4].into(),
            genesis_validators_root: B256::repeat_byte(9),
            deployed_block: 0,
        }
    }

    /// A trie with these leaves by hashed key, and the proof of each.
    fn trie(leaves: &[(B256, Vec<u8>)]) -> (B256, Vec<Vec<Bytes>>) {
        let path = |key: &B256| Nibbles::unpack(keccak256(key));
        let retainer = ProofRetainer::new(leaves.iter().map(|(key, _)| path(key)).collect());
        let mut builder = HashBuilder::default().with_proof_retainer(retainer);
        let mut sorted: Vec<_> = leaves.iter().map(|(key, value)| (path(key), value)).collect();
        sorted.sort();
        sorted.iter().for_each(|(path, value)| builder.add_leaf(*path, value));
        let (root, nodes) = (builder.root(), builder.take_proof_nodes());
        let proof = |(key, _): &(B256, Vec<u8>)| {
            nodes.matching_nodes_sorted(&path(key)).into_iter().map(|(_, node)| node).collect()
        };
        (root, leaves.iter().map(proof).collect())
    }

    pub(crate) fn storage(words: &[(B256, B256)]) -> EIP1186AccountProofResponse {
        let value = |word: &B256| U256::from_be_bytes(word.0);
        let leaves: Vec<_> = words.iter().map(|(slot, word)| (*slot, rlp::encode(value(word)))).collect();
        let (storage_hash, proofs) = trie(&leaves);
        let proven = words.iter().zip(proofs);
        let storage_proof =
            proven.map(|((slot, word), proof)| EIP1186StorageProof { key: (*slot).into(), value: value(word), proof });
        EIP1186AccountProofResponse { storage_hash, storage_proof: storage_proof.collect(), ..Default::default() }
    }

    struct Ask {
        key_id: u64,
        attempt: u16,
        kind: KeyKind,
        block: u64,
        /// Makes another block of the same number.
        salt: u8,
    }

    const ASK: Ask = Ask { key_id: 7, attempt: 0, kind: KeyKind::Withdrawal, block: 100, salt: 0 };

    fn facts(ask: &Ask, mine: Address) -> CeremonyFacts {
        let at = deployment();
        let slot = |id: u64, table: u64| keccak256((U256::from(id), U256::from(table)).abi_encode());
        let first = slot(ask.key_id, 8);
        let second = B256::from(U256::from_be_bytes(first.0) + U256::from(1));
        let attempt = ask.attempt.to_be_bytes();
        let fields = [&[0xff; 6][..], &attempt, &[3, 2, u8::from(ask.kind), u8::from(KeyState::Drawn)], &[6; 20]];
        let mut keys = storage(&[(first, B256::from_slice(&fields.concat())), (second, committee_hash(&COMMITTEE))]);
        let signer = |id: u32| if id == MINE { mine } else { other(id).address() };
        let servers: Vec<_> = COMMITTEE.iter().map(|id| (slot(u64::from(*id), 4), signer(*id).into_word())).collect();
        let mut servers = storage(&servers);
        let state_root = prove(&mut [(at.key_registry, &mut keys), (at.server_registry, &mut servers)]);
        let header = header(state_root, ask.block, 1_800_000_000, ask.salt);
        CeremonyFacts { header, committee: COMMITTEE.to_vec(), key_registry: keys, server_registry: servers }
    }

    /// Puts accounts with this storage into one state, and the proof of each beside it.
    pub(crate) fn prove(accounts: &mut [(Address, &mut EIP1186AccountProofResponse)]) -> B256 {
        // Accounts lie under the hash of 20 bytes, which the trie of storage hashes as 32: so it is built here.
        let path = |contract: &Address| Nibbles::unpack(keccak256(contract));
        let retainer = ProofRetainer::new(accounts.iter().map(|(contract, _)| path(contract)).collect());
        let mut builder = HashBuilder::default().with_proof_retainer(retainer);
        let account = |it: &EIP1186AccountProofResponse| {
            rlp::encode(TrieAccount::new(it.nonce, it.balance, it.storage_hash, it.code_hash))
        };
        let mut sorted: Vec<_> = accounts.iter().map(|(contract, it)| (path(contract), account(it))).collect();
        sorted.sort();
        sorted.iter().for_each(|(path, value)| builder.add_leaf(*path, value));
        let (state_root, nodes) = (builder.root(), builder.take_proof_nodes());
        for (contract, proof) in accounts {
            proof.account_proof =
                nodes.matching_nodes_sorted(&path(contract)).into_iter().map(|(_, node)| node).collect();
        }
        state_root
    }

    pub(crate) fn header(state_root: B256, number: u64, timestamp: u64, salt: u8) -> Bytes {
        let header = Header { state_root, number, timestamp, extra_data: vec![salt].into(), ..Header::default() };
        rlp::encode(header).into()
    }

    pub(crate) fn other(id: u32) -> SignerKey {
        SignerKey::from_bytes(&[u8::try_from(id).unwrap(); 32]).unwrap()
    }

    struct Rig {
        machine: Machine,
        _folder: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let signer = SignerKey::random().unwrap();
            let owner = owner(signer.address(), &deployment());
            let keys = Keys::new(SignerKeys::new(vec![signer], None), StoreKey::random().unwrap());
            let store = Store::open(&folder.path().join("server.db"), &owner, 0).unwrap();
            Self { machine: Machine { deployment: deployment(), keys, store }, _folder: folder }
        }

        fn request(&self, ask: &Ask, messages: Vec<SignedMessage>) -> Asked {
            let about = About {
                chain_id: 31_337,
                key_registry: deployment().key_registry,
                server: MINE,
                key_id: ask.key_id,
                attempt: ask.attempt,
                committee: committee_hash(&COMMITTEE),
            };
            let facts = facts(ask, self.machine.keys.signers().us().signers[0]);
            Asked { r#type: Mark::new(), version: VERSION, about, messages, facts }
        }

        fn refuses(&self, request: &Asked, exit: Exit, sentence: &str) {
            let failure = self.machine.plan(request).err().unwrap();
            assert!(failure.exit == exit && failure.message.contains(sentence), "{failure:?}");
        }

        /// Answers as after a person confirmed everything.
        fn answer(&self, request: &Asked) -> (Vec<Round>, AdvanceResponse) {
            let plan = self.machine.plan(request).unwrap();
            if !plan.is_confirmed {
                self.machine.store.confirm(&plan.confirmed).unwrap();
            }
            (plan.signs.clone(), self.machine.advance(&plan).unwrap())
        }
    }

    #[test]
    fn the_first_request_needs_a_hash_and_the_later_ones_of_that_ceremony_none() {
        let rig = Rig::new();
        let request = rig.request(&ASK, Vec::new());
        let plan = rig.machine.plan(&request).unwrap();
        assert!(!plan.is_confirmed && plan.confirm_block(None, false).is_err());
        assert!(
            plan.confirm_block(Some(B256::ZERO), false).is_err()
                && plan.confirm_block(Some(plan.confirmed.block.hash), false).is_ok()
        );
        assert!(plan.consent(false, false).is_err() && plan.consent(true, false).is_ok());
        assert!(
            plan.summary().contains("COMPARE IT")
                && plan.summary().contains("The answer signs and shows: one_time_key.")
        );
        let (signs, answer) = rig.answer(&request);
        assert_eq!((signs, answer.messages.len()), (vec![Round::OneTimeKey], 1));
        let again = rig.machine.plan(&rig.request(&Ask { block: 200, ..ASK }, Vec::new())).unwrap();
        assert!(again.is_confirmed && again.signs.is_empty() && again.confirm_block(None, false).is_ok());
        assert!(again.confirm_block(Some(B256::ZERO), false).is_err(), "a hash that is given is compared all the same");
    }

    #[test]
    fn what_was_confirmed_before_speaks_against_older_blocks_and_against_another_of_the_same_number() {
        let rig = Rig::new();
        rig.answer(&rig.request(&ASK, Vec::new()));
        let next = Ask { key_id: 8, ..ASK };
        rig.refuses(&rig.request(&Ask { block: 99, ..next }, Vec::new()), Exit::Refused, "it is stale");
        let fork = rig.request(&Ask { salt: 1, ..next }, Vec::new());
        rig.refuses(&fork, Exit::Unsafe, "both cannot be final");
        assert!(rig.machine.plan(&rig.request(&Ask { block: 101, ..next }, Vec::new())).is_ok());
    }

    #[test]
    fn a_validator_key_another_attempt_and_another_servers_request_are_refused() {
        let rig = Rig::new();
        let validator = rig.request(&Ask { kind: KeyKind::Validator, ..ASK }, Vec::new());
        rig.refuses(&validator, Exit::Refused, "is a validator key");
        let mut request = rig.request(&ASK, Vec::new());
        request.about.attempt = 1;
        rig.refuses(&request, Exit::Refused, "speaks of attempt 1");
        let mut request = rig.request(&ASK, Vec::new());
        request.about.server = 9;
        rig.refuses(&request, Exit::Refused, "this is server 5; carry it to the other machine");
        let mut request = rig.request(&ASK, Vec::new());
        request.about.chain_id = 1;
        rig.refuses(&request, Exit::Refused, "is for chain 1");
        let stranger = Rig::new();
        stranger.refuses(&rig.request(&ASK, Vec::new()), Exit::Refused, "is no member of the committee");
    }

    #[test]
    fn a_message_that_is_not_its_members_makes_the_whole_request_bad() {
        let rig = Rig::new();
        let domain = deployment().protocol_domain();
        let say = |id: u32, index: u8| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] });
            SignedMessage::sign(&domain, &other(id), (7, 0, ShareIndex::new(index).unwrap()), body)
        };
        assert!(rig.machine.plan(&rig.request(&ASK, vec![say(4, 1), say(9, 2)])).is_ok());
        rig.refuses(&rig.request(&ASK, vec![say(4, 1), say(4, 2)]), Exit::Refused, "is not authentic");
    }

    #[test]
    fn only_signer_keys_that_were_made_here_speak() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, file) = (folder.path().join("offline"), folder.path().join("deployment.json"));
        std::fs::write(&file, serde_json::to_string(&deployment()).unwrap()).unwrap();
        let first = init(&dir, &file).unwrap().signer;
        let operator = Address::repeat_byte(9);
        let made = new_signer(&dir, operator, None).unwrap();
        let again = new_signer(&dir, operator, Some(made.signer)).unwrap();
        assert_eq!((again.signer, again.signer_proof), (made.signer, made.signer_proof));
        // As copied from another machine.
        let (keys, foreign) = (files(&dir).signer_keys, other(7));
        secrets::write_hex32(&signers::file_of(&keys, foreign.address()), &foreign.to_bytes()).unwrap();
        let machine = Machine::open(&dir).unwrap();
        assert_eq!(machine.status().unwrap().signers, [first, made.signer]);
        assert_eq!(machine.store.born(made.signer).unwrap(), 0, "it is new");
        assert!(new_signer(&dir, operator, Some(operator)).is_err(), "no key of that signer");
    }
}
