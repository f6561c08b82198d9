//! What expressions may talk about: a closed list of metrics, each with its arguments, its unit and what a back end must
//! be able to observe for it.

use std::fmt;
use std::time::Duration;

/// What a run must be able to observe; where a back end cannot, checks that need it are N/A, never passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sense {
    /// Events that the programs themselves report. Every back end shows these.
    Events,
    /// What the censor's rules did.
    Censor,
    /// Who comes to the censor's own hosts; these have many addresses, which not every back end gives a host.
    Traps,
    /// What the censor's prober sends and meets.
    Probes,
    /// The bytes that cross the border, searched for secrets.
    Wire,
    /// The bytes on peers' disks after a purge.
    Disk,
    /// The oracle's judgement whether a client has an open path.
    Paths,
    /// Whether boxes are readable at the end.
    Boxes,
    /// Crashes, restarts and lost disks.
    Faults,
}

impl Sense {
    /// All of them: what the default simulator observes.
    pub const ALL: &'static [Self] = &[
        Self::Events,
        Self::Censor,
        Self::Traps,
        Self::Probes,
        Self::Wire,
        Self::Disk,
        Self::Paths,
        Self::Boxes,
        Self::Faults,
    ];
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing: counts, shares, ratios.
    One,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// As reports print it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Seconds => "s",
            Self::Bytes => "B",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "a plain number",
            Self::Seconds => "a time",
            Self::Bytes => "a size",
        })
    }
}

/// What a metric gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Yes or no for each peer: `share(...)`, `count(...)`.
    Flags,
    /// Any number of numbers: `quantile(..., q)`, `max`, `min`, `mean`, `count`.
    Samples,
    /// One number.
    Number,
}

/// An argument of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A time, required: `(5 min)`.
    Time,
    /// The name of a censor rule, optional: `('shutdown')`.
    Rule,
    /// A step of the bootstrap ladder, required: `('dht')`.
    Step,
    /// A transport, required: `('obfs4')`.
    Transport,
    /// A kind of secret, optional: `('bridge-key')`.
    Secret,
    /// `outside 'rule'`, optional: leave out what falls into that rule's time.
    Outside,
}

/// Steps of the ladder, as expressions name them.
pub const STEPS: &[&str] = &["cached", "static", "directory", "dht", "friend"];
/// Transports, as expressions name them.
pub const TRANSPORTS: [&str; 4] = ["plain", "obfs4", "obfs4-http", "obfs4-tls"];
/// Kinds of secrets, as expressions name them.
pub const SECRETS: &[&str] = &[
    "user-key",
    "message-id",
    "box-address",
    "invitation-secret",
    "bridge-key",
    "payload",
];

/// A metric's row in the list.
#[derive(Debug)]
pub struct Entry {
    /// As expressions write it.
    pub name: &'static str,
    /// Which one.
    pub metric: Metric,
    /// Its arguments.
    pub takes: &'static [Takes],
    /// What it gives.
    pub gives: Gives,
    /// Its unit.
    pub unit: Unit,
    /// What must be observable.
    pub sense: Sense,
    /// Whether it is known only when the run has ended.
    pub at_end: bool,
    /// What it means.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($variant:ident $name:literal [$($takes:ident),*] $gives:ident $unit:ident $sense:ident $at_end:literal $help:literal;)*) => {
        /// Everything that can be measured.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric { $(#[doc = $help] $variant,)* }

        /// The list.
        pub const METRICS: &[Entry] = &[$(Entry {
            name: $name, metric: Metric::$variant, takes: &[$(Takes::$takes),*], gives: Gives::$gives,
            unit: Unit::$unit, sense: Sense::$sense, at_end: $at_end, help: $help,
        },)*];
    };
}

metrics! {
    ClientConnected "client.connected" [] Flags One Events false
        "clients that have arrived: had an authenticated round trip in the last 30 s";
    ClientOpenPath "client.open_path" [] Flags One Paths false
        "clients that have arrived: by the oracle, a live unblocked entry is within reach of the steps they have";
    ClientStranded "client.stranded" [Time] Flags One Paths false
        "clients that have arrived: had an open path for this long, interruptions aside, and were not connected in any of it";
    ClientConnectedWithin "client.connected_within" [Time, Outside] Flags One Events true
        "clients: first connected no later than this after their arrival";
    ClientTimeToConnect "client.time_to_connect" [Outside] Samples Seconds Events true
        "per client, from arrival to first connection; infinite for those that never were";
    ClientFooled "client.fooled" [] Number One Events false
        "links that clients trusted at an address the censor forged";
    ClientEntered "client.entered" [Step] Number One Events false
        "connections that clients made by this step of the ladder";
    WaySwitches "way.switches" [] Number One Events false
        "times that clients left a way in because it was throttled or frozen, or went back to one that they had left";
    WayDwell "way.dwell" [] Samples Seconds Events false
        "per such change, for how long the way in that was left had been used";
    WayVerdictTime "way.verdict_time" [] Samples Seconds Events false
        "per way in that a client found throttled or frozen, from its first doubt to that";
    WayFoundTime "way.found_time" [Rule] Samples Seconds Events false
        "per way in that a client found throttled or frozen, from when the rule began, or the way in was taken if that was later, to that";
    WayDismissed "way.dismissed" [] Number One Events false
        "doubts of clients about a way in that turned out to be none";
    ClientEnteredOver "client.entered_over" [Transport] Number One Events false
        "connections that clients made over this transport";
    ClientFlagged "client.flagged" [Transport] Flags One Wire false
        "connections to a place where bridges speak this transport: the rule on fully encrypted traffic flags their first packet, whether or not the censor has that rule";
    ProbeSent "probe.sent" [] Number One Probes false
        "probes of the censor's that ended";
    ProbeAnswered "probe.answered" [] Number One Probes false
        "probes of the censor's that got a byte";
    ProbeClosingSpread "probe.closing_spread" [] Samples Seconds Probes false
        "per server that closed on probes without a byte, between the soonest and the latest close, counted from each handshake";
    InsiderBridges "insider.bridges" [] Samples One Events false
        "per insider, bridges it has learned of from all sources together";
    MessageAccepted "message.accepted" [] Number One Events false
        "messages that senders accepted for delivery";
    MessageDelivered "message.delivered" [] Number One Events false
        "messages that reached their reader";
    MessageLost "message.lost" [Time] Number One Events true
        "messages accepted at least this long before the end, unexpired, whose two ends had an open path that long since, interruptions aside, and not delivered";
    MessageExempt "message.exempt" [Time] Flags One Paths true
        "messages accepted at least this long before the end: not delivered and not lost either, as an end had no open path that long";
    MessageDuplicated "message.duplicated" [] Number One Events false
        "times a user was shown a message again (but for a message whose reader crashed before it had stored that it was shown)";
    MessageLate "message.late" [] Number One Events false
        "times a user was shown a message later than its expiry plus the scenario's clock bound";
    MessageDeliveryTime "message.delivery_time" [] Samples Seconds Events true
        "per delivered message, from acceptance to delivery";
    WireLeaks "wire.leaks" [Secret] Number One Wire false
        "secrets found in bytes that the censor sees";
    DiskResidue "disk.residue" [] Number One Disk false
        "boxes, and keys of segments, whose time is over and of which bytes were still in some file of a node";
    QueueFill "queue.fill" [] Samples One Events false
        "per queue and peer, its deepest as a share of its bound";
    QueueOverflow "queue.overflow" [] Number One Events false
        "times that a queue was deeper than its bound";
    BoxLost "box.lost" [] Number One Boxes true
        "acknowledged, unexpired boxes unreadable at the end although a replica that stored them kept its disk";
    CensorDropped "censor.dropped" [Rule] Number One Censor false
        "packets the censor dropped";
    CensorReset "censor.reset" [Rule] Number One Censor false
        "connections the censor reset";
    CensorForged "censor.forged" [Rule] Number One Censor false
        "DNS answers the censor forged";
    CensorBlocked "censor.blocked" [Rule] Number One Censor false
        "bridges the censor put on its list because an insider learned of them";
    CensorLured "censor.lured" [Rule] Number One Traps false
        "streams opened to the censor's own hosts, which are at a quarter of the addresses it forges";
    FaultCrashes "fault.crashes" [] Number One Faults false
        "peers that crashed";
    FaultRestarts "fault.restarts" [] Number One Faults false
        "peers that started again after a crash";
    FaultDisksLost "fault.disks_lost" [] Number One Faults false
        "disks that were lost";
    FaultClockSteps "fault.clock_steps" [] Number One Faults false
        "wall clocks that stepped";
    BoxRepaired "box.repaired" [] Number One Events false
        "boxes that a replica took over because it lacked them";
}

impl Metric {
    /// Its row in the list.
    pub fn entry(self) -> &'static Entry {
        METRICS
            .iter()
            .find(|entry| entry.metric == self)
            .unwrap_or(&METRICS[0])
    }
}

/// A metric with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Which metric.
    pub metric: Metric,
    /// Its time.
    pub time: Duration,
    /// The rule, step or secret it is about; `None`: all of them.
    pub about: Option<String>,
    /// The rule whose time is left out.
    pub outside: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_row_and_name() {
        for (i, entry) in METRICS.iter().enumerate() {
            assert_eq!(entry.metric.entry().name, entry.name);
            assert!(
                METRICS[i + 1..].iter().all(|other| other.name != entry.name),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn every_metric_is_documented_with_its_meaning() {
        let text = include_str!("../../../docs/SCENARIOS.md");
        for entry in METRICS {
            let row = text.lines().find(|line| {
                line.starts_with("| `") && line.contains(entry.name) && line.contains(entry.help)
            });
            assert!(row.is_some(), "docs/SCENARIOS.md has no row for {}", entry.name);
        }
    }
}
