//! `stkr-server offline …`: a server on a machine without network.
//!
//! It is the server that [`crate::ceremony`] describes, with the same database; what differs is where messages and facts come from:
//! files that somebody carries. Whoever made them is not trusted. What the chain says comes with proofs that lead to a block's hash, and
//! that hash a person compares with another source, once for each ceremony. Nothing is signed before a person has read what.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use eyre::WrapErr as _;
use serde::Serialize;
use stkr_chain::Deployment;
use stkr_chain::facts::{CeremonyFacts, ProvenBlock, ProvenCeremony};
use stkr_chain::types::KeyKind;
use stkr_core::{ShareIndex, Threshold};
use stkr_node::exit::Failure;
use stkr_node::secrets;
use stkr_protocol::api::{AdvanceResponse, FailureReport};
use stkr_protocol::ceremony::{Board, Context, MemberId};
use stkr_protocol::messages::{Round, SignedMessage};
use stkr_protocol::offline::{About, AnswerFile, MAX_FILE, Request, RequestFile, from_json};
use stkr_protocol::registration;

use crate::app::Keys;
use crate::ceremony::{Ceremonies, Drawn};
use crate::config::FilesConfig;
use crate::seal::Sealer;
use crate::setup::{RegisterArgs, load_keys, load_signer, make_offline_secrets};
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
    /// Print the arguments with which an operator registers this server, as JSON
    RegisterArgs {
        /// Folder of the server
        #[arg(long)]
        dir: PathBuf,
        /// Account that will send the registration
        #[arg(long)]
        operator: Address,
    },
    /// Print the ceremonies that this server takes part in, as JSON
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

/// What `status` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    signer: Address,
    chain_id: u64,
    key_registry: Address,
    ceremonies: Vec<CeremonyLine>,
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
            Self::RegisterArgs { dir, operator } => print(&register_args(&dir, operator)?),
            Self::Status { dir } => print(&Machine::open(&dir)?.status()?),
            Self::Show { dir, file } => {
                let machine = Machine::open(&dir)?;
                let plan = machine.plan(&read_request(&file)?)?;
                say(&plan.summary())?;
                print(&plan.answered())
            }
            Self::Answer(args) => print(&answer(&args)?),
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
    if files.database.exists() || dir.join(DEPLOYMENT).exists() {
        let reason = format!("{} holds a server already; init makes new servers only", dir.display());
        return Err(Failure::usage(reason).into());
    }
    secrets::create_private_folder(&dir)?;
    let signer = make_offline_secrets(&files)?;
    // Born at block 0: the signer key is new, so nothing can have been said with it before.
    drop(Store::open(&files.database, &owner(signer.address(), &deployment), 0)?);
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
    let signer = load_signer(&files(dir))?;
    let proof = registration::signer_proof(&signer, deployment.chain_id, deployment.server_registry, operator);
    Ok(RegisterArgs {
        signer: signer.address(),
        tls_fingerprint: B256::ZERO.to_string(),
        kind: "offline",
        endpoint: ENDPOINT.to_owned(),
        signer_proof: format!("0x{}", hex::encode(proof)),
    })
}

/// Reads a request whole; nothing in it is checked yet but its form.
fn read_request(file: &Path) -> eyre::Result<Asked> {
    let text = stkr_files::read(file, MAX_FILE).map_err(|error| Failure::usage(format!("request {error}")))?;
    let asked: Asked = from_json::<Request, _>(&text).map_err(|error| refused(file, &error))?;
    Ok(asked)
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
    /// Who asked for the key, and whether that is the pools contract; nothing once it was confirmed.
    consumer: Option<(Address, bool)>,
    me: ShareIndex,
    /// Messages of each round, with those of the request.
    came: BTreeMap<Round, usize>,
    signs: Vec<Round>,
}

impl Machine {
    fn open(dir: &Path) -> eyre::Result<Self> {
        let (deployment, files) = (deployment_of(dir)?, files(dir));
        let keys = load_keys(&files)?;
        // Opening makes a new database where none is; a server that forgot what it signed must not start as a new one.
        if !files.database.is_file() {
            let reason = format!(
                "{} is missing: without it this server does not know what it signed; restore it from the newest backup, or make a new server",
                files.database.display()
            );
            return Err(Failure::not_safe(reason).into());
        }
        let owner = owner(keys.signer.address(), &deployment);
        let store = Store::open(&files.database, &owner, 0).map_err(Failure::not_safe)?;
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
                has_share: shares.iter().any(|share| share.attempt == it.attempt),
                committee: it.members.iter().map(|member| member.server_id).collect(),
            });
        }
        Ok(Status {
            signer: self.keys.signer.address(),
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
            return Err(Failure::refused(format!(
                "the request is for chain {}, KeyRegistry {}; this server belongs to chain {}, KeyRegistry {}",
                about.chain_id, about.key_registry, domain.chain_id, domain.key_registry
            )));
        }
        let known = self.store.confirmed().map_err(Failure::not_safe)?;
        let same = |it: &&Confirmed| (it.key_id, it.attempt, it.committee) == (about.key_id, about.attempt, about.committee);
        let mut proven = None;
        let (confirmed, is_confirmed) = match known.iter().find(same) {
            Some(it) => (it.clone(), true),
            None => {
                let facts = self.prove(asked, &known)?;
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
        let consumer = proven.as_ref().map(|key| (key.consumer, key.consumer == self.deployment.micropools));
        let messages = asked.messages.clone();
        Ok(Plan { drawn, about, messages, confirmed, is_confirmed, consumer, me, came, signs })
    }

    /// The ceremony as the file proves it, if nothing that was confirmed before speaks against it.
    fn prove(&self, asked: &Asked, known: &[Confirmed]) -> Result<ProvenCeremony, Failure> {
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
        let block = proven.block;
        if let Some(it) = known.iter().find(|it| it.block.number == block.number && it.block.hash != block.hash) {
            return Err(Failure::not_safe(format!(
                "block {} has hash {} in this request and {} in one that was confirmed before; both cannot be final: find out which \
                 is, from two sources, before anything else is signed",
                block.number, block.hash, it.block.hash
            )));
        }
        if let Some(newest) = known.iter().map(|it| it.block).max_by_key(|it| it.number)
            && block.number < newest.number
        {
            return Err(Failure::refused(format!(
                "the request is of block {}, and block {} was confirmed here before: it is stale; fetch a new one",
                block.number, newest.number
            )));
        }
        Ok(proven)
    }

    fn seat(&self, context: &Context, server: u32) -> Result<ShareIndex, Failure> {
        let signer = self.keys.signer.address();
        let me = context.index_of(signer);
        let mine = me.and_then(|index| context.member(index)).map(|member| member.server_id);
        match (me, mine) {
            (Some(me), Some(id)) if id == server => Ok(me),
            (Some(_), Some(id)) => Err(Failure::refused(format!(
                "the request is for server {server}, and this is server {id}; carry it to the other machine"
            ))),
            _ => Err(Failure::refused(format!(
                "this server (signer {signer}) is no member of the committee of key {}; the request is for server {server}",
                context.key_id()
            ))),
        }
    }
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
        if let Some((consumer, is_pools)) = self.consumer {
            let whose = if is_pools { "the pools contract of this deployment" } else { "NOT the pools contract of this deployment" };
            lines.push(format!("The key was asked for by {consumer}, {whose}; it has no pool before it is made."));
        }
        let members: Vec<String> = context.committee().iter().map(ToString::to_string).collect();
        lines.push(format!("Committee, servers in index order: {}.", members.join(", ")));
        lines.push(format!("It must be finished by {}.", date(self.confirmed.deadline)));
        let counts = self.came.iter().map(|(round, came)| format!("{came} of {} {round}", threshold.n()));
        lines.push(format!("Messages so far: {}.", counts.collect::<Vec<_>>().join(", ")));
        lines.push(match self.signs.is_empty() {
            true => "Nothing new is to be signed: the answer repeats what this server said.".to_owned(),
            false => format!("The answer signs and shows: {}.", self.signs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        });
        let compared = if self.is_confirmed { "you compared it before" } else { "COMPARE IT with a source other than the relayer" };
        lines.push(format!("Proven by block {} of {}: {compared}.", block.number, date(block.timestamp)));
        lines.push(format!("  {}", block.hash));
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

    /// That a person compared the hash, by what it typed or by `given`.
    fn confirm_block(&self, given: Option<B256>) -> eyre::Result<()> {
        let block = &self.confirmed.block;
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
        if given.is_some() || self.is_confirmed {
            return Ok(());
        }
        let wanted = "this ceremony is new here: look block up elsewhere and give its hash with --block";
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!("{wanted} (block {})", block.number)).into());
        }
        let typed = ask(&format!("Type the last 8 digits of the hash of block {} as the other source shows it", block.number))?;
        match block.hash.to_string().ends_with(&typed.to_lowercase()) && typed.len() == 8 {
            true => Ok(()),
            false => Err(Failure::refused("those are other digits than the request proves; nothing was signed").into()),
        }
    }

    fn consent(&self, yes: bool) -> eyre::Result<()> {
        if yes || self.signs.is_empty() {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage("nobody can be asked here; read what `offline show` says and give --yes").into());
        }
        match ask("Sign this? yes or no")?.as_str() {
            "yes" => Ok(()),
            _ => Err(Failure::refused("nothing was signed").into()),
        }
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

fn answer(args: &AnswerArgs) -> eyre::Result<Answered> {
    if args.out.exists() {
        return Err(Failure::usage(format!("{} exists already; name a new file with --out", args.out.display())).into());
    }
    let machine = Machine::open(&args.dir)?;
    let plan = machine.plan(&read_request(&args.file)?)?;
    say(&plan.summary())?;
    plan.confirm_block(args.block)?;
    plan.consent(args.yes)?;
    if !plan.is_confirmed {
        machine.store.confirm(&plan.confirmed)?;
    }
    let response = machine.advance(&plan)?;
    let (phase, failure) = (response.phase.name(), response.failure.clone());
    let file = AnswerFile::sign(plan.about, response, &machine.keys.signer)?;
    secrets::write_new(&args.out, serde_json::to_string_pretty(&file)?.as_bytes()).wrap_err("write the answer")?;
    let answer = Some(args.out.clone());
    Ok(Answered { phase: Some(phase), failure, answer, confirmed: true, ..plan.answered() })
}

impl Machine {
    fn advance(&self, plan: &Plan) -> eyre::Result<AdvanceResponse> {
        let sealer = Sealer::new(&self.keys.store_key);
        let ceremonies = Ceremonies {
            store: &self.store,
            signer: &self.keys.signer,
            sealer: &sealer,
            store_key: &self.keys.store_key,
        };
        Ok(ceremonies.advance(&plan.drawn, plan.messages.clone())?)
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
