//! What can be said on the command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use phantom_client::config::ClientConfig;
use phantom_core::event::Step;

use super::duration;

/// A messaging client that finds a way in when the obvious ways are blocked.
///
/// First `phantom init`, then become contacts with somebody: one of you runs `phantom invite NAME` and shows the text to the
/// other, who runs `phantom accept TEXT --name NAME` and gives back the answer, which the first accepts too.
#[derive(Debug, Parser)]
#[command(name = "phantom", version, propagate_version = true)]
pub(crate) struct Args {
    /// Where the client keeps its files [default: $PHANTOM_HOME, else ~/.phantom].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// A file whose first line is the passphrase that seals the state. Without it, a random key in the home folder does,
    /// which protects nothing from whoever can read that folder.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Mean time between polls, for example "30 s" [default: 60 s, or `poll` in config.toml].
    #[arg(long, global = true, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) poll: Option<Duration>,
    /// Boxes asked for in one poll, 1 to 32 [default: 12, or `boxes` in config.toml].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) boxes: Option<u8>,
    /// Which ways in to try, separated by commas [default: all, or `steps` in config.toml].
    #[arg(long, global = true, value_delimiter = ',', value_name = "STEP")]
    pub(crate) steps: Option<Vec<StepName>>,
    /// Use this address of the machine for everything.
    #[arg(long, global = true, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// A name and its address, as a line of /etc/hosts; may be repeated.
    #[arg(long = "host", global = true, value_name = "NAME=IP", value_parser = host)]
    pub(crate) hosts: Vec<(String, IpAddr)>,
    /// Also write every event as a JSON line to this file (0600), at its end; what PHANTOM_LOG=debug logs, for programs. No
    /// secret is in it, and yet it is a record of when this client was where: delete it when it has served.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Make the client's files from the bundle that came with the program.
    Init {
        /// The bundle.
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
    },
    /// Offer somebody to become a contact, or help a friend to get in.
    ///
    /// With NAME: prints a text for exactly one person, to be shown by a way that nobody else reads; it is good for 14 days.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Invite {
        /// What you will call the contact.
        #[arg(group = "what")]
        name: Option<String>,
        /// Fetch what a friend who has no way in needs; the text is what the friend's `phantom invite --my-cohort` printed.
        #[arg(long, value_name = "TEXT", group = "what")]
        for_cohort: Option<String>,
        /// Print what a friend needs to fetch an invitation for you.
        #[arg(long, group = "what")]
        my_cohort: bool,
        /// How long to try.
        #[arg(long, value_name = "TIME", default_value = "2 min", value_parser = duration::parse)]
        within: Duration,
    },
    /// Take up what somebody gave you: a contact's offer, the answer to yours, the confirmation of your answer,
    /// or an invitation of a friend.
    Accept {
        /// The text; "-" reads it from standard input.
        text: String,
        /// What you will call the contact; needed for an offer.
        #[arg(long)]
        name: Option<String>,
    },
    /// Send a message or a file.
    #[command(group = clap::ArgGroup::new("sent").required(true))]
    Send {
        /// To whom.
        contact: String,
        /// The text; "-" reads it from standard input.
        #[arg(group = "sent")]
        text: Option<String>,
        /// A file, up to 8 MiB. It goes out whenever the client runs: keep `receive` or `daemon` running, or wait for "stored".
        #[arg(long, value_name = "PATH", group = "sent")]
        file: Option<PathBuf>,
        /// Not to be delivered after that; at most 14 d.
        #[arg(long, value_name = "TIME", default_value = "7 d", value_parser = duration::parse)]
        ttl: Duration,
        /// What to wait for. Once it is accepted, the message is safe on this machine and goes out whenever the client runs.
        #[arg(long, value_enum, default_value = "stored")]
        wait: Wait,
        /// How long to wait.
        #[arg(long, value_name = "TIME", default_value = "2 min", value_parser = duration::parse)]
        within: Duration,
    },
    /// Print messages: those that wait, then others as they come.
    ///
    /// A message stays with the client until this or `daemon` has printed it, or until it expires.
    Receive {
        /// How long; until Ctrl-C if not given.
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
        within: Option<Duration>,
        /// End after so many.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Store attachments here, under their own names; nothing is replaced. Without it they stay with the client.
        #[arg(long, value_name = "FOLDER")]
        files: Option<PathBuf>,
    },
    /// Run for a program: requests as JSON lines on standard input, answers and notices as JSON lines on standard output.
    /// Ends with its input.
    ///
    /// A request is {"id": 1, "do": …} with one of: {"send": {"contact": "bob", "text": "hi", "ttl": "1 h"}},
    /// {"send_file": {"contact": "bob", "path": "plan.pdf", "ttl": "1 h"}},
    /// {"offer": {"name": "bob"}}, {"accept": {"text": "…", "name": "bob"}}, {"fetch_invitation": {"cohort": "…"}},
    /// "cohort", "status", "stop". Its answer is {"id": 1, "ok": …} or {"id": 1, "error": "…"}; notices are {"notice": …}.
    /// A message counts as taken once its line is written; a crash then may show it twice (by its tag), never lose it.
    /// An attachment is stored in the folder "files" of the home folder, and its line says where.
    #[command(verbatim_doc_comment)]
    Daemon,
    /// Look for a way in and say what was tried, what each attempt saw, and what is in use.
    Doctor {
        /// How long to try.
        #[arg(long = "for", value_name = "TIME", default_value = "20 s", value_parser = duration::parse)]
        within: Duration,
    },
    /// Be a pluggable transport for tor, or for any parent that speaks its specification: obfs4, client and bridge.
    ///
    /// In torrc:
    ///
    ///   ClientTransportPlugin obfs4 exec /usr/bin/phantom pt
    ///   Bridge obfs4 192.0.2.1:443 FINGERPRINT cert=... iat-mode=0
    ///
    /// and on a bridge:
    ///
    ///   ServerTransportPlugin obfs4 exec /usr/bin/phantom pt
    ///   ServerTransportOptions obfs4 iat-mode=0
    ///
    /// obfs4_prefixed is obfs4 that begins like TLS or HTTP (prefix=tls, prefix=http), for censors that block what looks random.
    ///
    /// The keys of a bridge are in the state folder that tor names, in the form of obfs4proxy's.
    #[command(verbatim_doc_comment)]
    Pt,
    /// Print the version and the hash of this program.
    Verify,
}

/// What `send` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// The message is safe on this machine.
    Accepted,
    /// Enough storage nodes hold it.
    Stored,
    /// The reader has it.
    Acknowledged,
}

/// A step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StepName {
    /// Entries that worked before.
    Cached,
    /// Entries published with the program.
    Static,
    /// Nodes of the newest directory document held.
    Directory,
    /// Bridges found in the BitTorrent DHT.
    Dht,
    /// Bridges from invitations.
    Friends,
}

impl StepName {
    const fn step(self) -> Step {
        match self {
            Self::Cached => Step::Cached,
            Self::Static => Step::Static,
            Self::Directory => Step::Directory,
            Self::Dht => Step::Dht,
            Self::Friends => Step::Friend,
        }
    }
}

/// `config.toml` in the home folder; everything in it is optional.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Mean time between polls.
    poll: Option<String>,
    /// Boxes asked for in one poll.
    boxes: Option<u8>,
    /// Which ways in to try.
    steps: Option<Vec<StepName>>,
}

impl Args {
    /// What the file says, and the command line over it.
    pub(crate) fn apply(&self, settings: &Settings, config: &mut ClientConfig) -> Result<(), String> {
        let poll = settings.poll.as_deref().map(duration::parse).transpose();
        let poll = poll.map_err(|error| format!("poll: {error}"))?;
        if let Some(gap) = self.poll.or(poll) {
            config.poll.mean_gap = gap.max(Duration::from_millis(100));
        }
        if let Some(boxes) = self.boxes.or(settings.boxes) {
            if !(1..=32).contains(&boxes) {
                return Err(format!("boxes: between 1 and 32 are possible, not {boxes}"));
            }
            config.poll.boxes = usize::from(boxes);
        }
        if let Some(steps) = self.steps.as_ref().or(settings.steps.as_ref()) {
            config.steps = steps.iter().map(|step| step.step()).collect();
        }
        Ok(())
    }
}

fn host(text: &str) -> Result<(String, IpAddr), String> {
    let wanted = || format!("{text:?} is not NAME=IP, as in entry.example=127.0.0.5");
    let (name, ip) = text.split_once('=').ok_or_else(wanted)?;
    Ok((name.to_owned(), ip.parse().map_err(|_| wanted())?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_setting_that_does_not_exist_is_refused_with_the_choices() {
        let error = toml::from_str::<Settings>("pol = \"1 s\"")
            .expect_err("a typo")
            .to_string();
        assert!(error.contains("`pol`") && error.contains("`poll`"), "{error}");
        let error = toml::from_str::<Settings>("steps = [\"dth\"]")
            .expect_err("a typo")
            .to_string();
        assert!(error.contains("`dht`"), "{error}");
    }
}
