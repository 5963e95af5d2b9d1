//! Counting: what became of every datagram, why the dropped ones were dropped, and the text a scraper reads.
//!
//! Each shard counts in plain fields and publishes them once per batch into a block of its own, which the scraper reads
//! without locks. The sums that must hold, per shard and in total, whenever a batch has been published:
//!
//! * received = forwarded + answered + deferred + Σ dropped by reason (datagrams, after the kernel's merging is undone;
//!   a trace message that is taken in is deferred);
//! * sends = sends that reached the kernel + sends that failed.

use std::fmt::Write as _;

use crossbeam_utils::CachePadded;

use crate::seqlock::SeqCell;

/// Declares a fieldless enum with a label and a help text per variant, usable as an index.
macro_rules! labels {
    ($(#[$outer:meta])* $name:ident { $($(#[doc = $help:literal])+ $variant:ident = $label:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $help])+ $variant,)+ }

        impl $name {
            /// Every variant, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// What it counts, in a line: its documentation.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),+).trim(),)+ }
            }
        }
    };
}

labels! {
    /// Why a datagram went no further.
    DropReason {
        /// Too short for its type, or a field that no such message has.
        Malformed = "malformed",
        /// No type of ours, or one that only relays send.
        UnknownType = "unknown_type",
        /// The sender's session stands at another endpoint, or there is none.
        SourceMismatch = "source_mismatch",
        /// The sender's id is being contested between two endpoints.
        SourceContested = "source_contested",
        /// Nobody by that id is here.
        UnknownDestination = "unknown_destination",
        /// The sender used up its packets or bytes.
        SenderBudget = "sender_budget",
        /// The source prefix used up its packets or its bytes, sent from where their senders are.
        PrefixBudget = "prefix_budget",
        /// The source prefix used up its control messages. Anybody may have written it into them.
        ControlBudget = "control_budget",
        /// The source prefix used up what it may send in vain: from where its senders are not.
        RefusedBudget = "refused_budget",
        /// A signed claim to an id the directory does not know.
        UnknownClaimant = "unknown_claimant",
        /// A signed claim whose cookie was not made for this node and source, or too long ago.
        StaleCookie = "stale_cookie",
        /// The source prefix, or all together, had their signatures checked, or asked the directory, often enough.
        QuestionBudget = "question_budget",
        /// It came from the port of a service that answers whatever it is sent; no client has it.
        ServicePort = "service_port",
        /// A hole-punch probe that nobody asked for.
        UnsolicitedProbe = "unsolicited_probe",
        /// The kernel cut the datagram short: larger than any the protocol knows.
        Truncated = "truncated",
        /// The local address towards the destination has gone.
        NoLocalAddress = "no_local_address",
        /// The batch had no room for another send.
        NoSendSlot = "no_send_slot",
    }
}

labels! {
    /// What else a shard counts.
    Counter {
        /// Datagrams received, merged ones counted singly.
        Received = "datagrams_received",
        /// Datagrams that left towards another node.
        Forwarded = "datagrams_forwarded",
        /// Datagrams answered to their sender.
        Answered = "datagrams_answered",
        /// Datagrams without an answer whose content was taken in: passed on to the shard that owns it, used in a decision,
        /// or noted (trace messages).
        Deferred = "datagrams_deferred",
        /// Relayed datagrams whose sender belongs to another shard: its socket is shared, or they came merged with others.
        /// Not looked at where nobody is checked.
        Foreign = "datagrams_foreign",
        /// Payload bytes received.
        ReceivedBytes = "received_bytes",
        /// Payload bytes forwarded.
        ForwardedBytes = "forwarded_bytes",
        /// Receives the kernel delivered, merged ones counted once.
        Receives = "receives",
        /// Datagrams handed to the kernel for sending.
        Sends = "sends",
        /// Of these, refused by the kernel for good.
        SendsFailed = "sends_failed",
        /// Send operations that carried more than one datagram.
        Trains = "trains",
        /// Datagrams that left above the path's MTU, fragmented by IP.
        Fragmented = "sends_fragmented",
        /// Datagrams the kernel dropped because the socket's buffer was full. While senders are held back, those of other
        /// sockets of this host may be among them.
        KernelDrops = "kernel_drops",
        /// Datagrams of senders far over their budget that the kernel's socket filter dropped, merged ones counted once; they
        /// are not among those received.
        FilterDrops = "filter_drops",
        /// Times the kernel had no buffer of ours left to receive into.
        BuffersExhausted = "receive_buffers_exhausted",
        /// Times a receive operation was armed again.
        Rearmed = "receives_rearmed",
        /// Batches decided.
        Batches = "batches",
        /// Times the shard has gone round its loop; it does so at least once a second.
        Turns = "turns",
        /// Sessions that began.
        SessionsStarted = "sessions_started",
        /// Sessions found again by asking the node where it last registered.
        SessionsRecalled = "sessions_recalled",
        /// Sessions that ended in silence.
        SessionsExpired = "sessions_expired",
        /// Sessions that moved to another endpoint.
        SessionsMoved = "sessions_moved",
        /// Claims refused because the id's holder has a better one.
        ClaimsRefused = "claims_refused",
        /// Claims refused because the table is full.
        ClaimsNoRoom = "claims_no_room",
        /// Claims refused because nothing proves them (admission strict).
        ClaimsUnproven = "claims_unproven",
        /// Challenges sent to nodes that want to sign that they are there.
        Challenges = "challenges",
        /// Claims whose signature was checked and is the node's.
        ClaimsSigned = "claims_signed",
        /// Claims whose signature was checked and is not the node's.
        ClaimsForged = "claims_forged",
        /// Claims whose signature is the node's and had counted before.
        ClaimsRepeated = "claims_repeated",
        /// Wishes to sign of nodes whose session is signed for already.
        ClaimsStanding = "claims_standing",
        /// Hole punches refused because the directory would not tell the one where the other is (admission strict).
        PunchesRefused = "punches_refused",
        /// Signatures and questions to the directory that found their queue full, so that nobody looks at them.
        QuestionsDropped = "questions_dropped",
        /// Claims refused because the relay is being drained.
        ClaimsWhileDraining = "claims_while_draining",
        /// Sessions taken over from the relay before.
        SessionsInherited = "sessions_inherited",
        /// Contests between two endpoints begun.
        ContestsStarted = "contests_started",
        /// Contests the holder won by answering.
        ContestsHeld = "contests_held",
        /// Contests the candidate won by the holder's silence, or by its own answer where another had the holder's port.
        ContestsWon = "contests_won",
        /// Messages to another shard that found its mailbox full.
        MailDropped = "mail_dropped",
        /// Control events that found their queue full, so that nobody will see them.
        EventsDropped = "events_dropped",
        /// Trace messages taken in but not noted: their trace is not recorded, or their sender has too many a second.
        TracesPassedOver = "traces_passed_over",
        /// Traced pairs whose datagrams are not counted, so that their traces have no pilot.relay.forward: their sender has
        /// others, or too many pairs are counted already.
        WatchesRefused = "watches_refused",
    }
}

labels! {
    /// What a shard holds at the moment.
    Gauge {
        /// Live sessions.
        Sessions = "sessions",
        /// Contests under way.
        Contests = "contests",
        /// Sessions that have changed and are not written to the ledger yet.
        Unwritten = "ledger_unwritten",
        /// Senders and source prefixes far over their budget that the kernel holds back.
        Penalties = "penalties",
    }
}

/// The counters of one shard, as plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; Counter::COUNT],
    drops: [u64; DropReason::COUNT],
    gauges: [u64; Gauge::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self { counts: [0; Counter::COUNT], drops: [0; DropReason::COUNT], gauges: [0; Gauge::COUNT] }
    }
}

impl Counters {
    /// Adds one.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`.
    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.counts[counter as usize] += amount;
    }

    /// Adds one datagram dropped for `reason`.
    pub fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Sets what is held now.
    pub fn set(&mut self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize] = value;
    }

    /// A counter's value.
    #[must_use]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// A gauge's value.
    #[must_use]
    pub const fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize]
    }

    /// Datagrams dropped for `reason`.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Datagrams dropped in all.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Whether every received datagram is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.get(Counter::Received)
            == self.get(Counter::Forwarded)
                + self.get(Counter::Answered)
                + self.get(Counter::Deferred)
                + self.dropped_total()
    }

    /// Adds another shard's counters.
    pub fn merge(&mut self, other: &Self) {
        let all = |counters: &Self| [counters.counts.to_vec(), counters.drops.to_vec(), counters.gauges.to_vec()];
        let theirs = all(other);
        for (mine, theirs) in [&mut self.counts[..], &mut self.drops[..], &mut self.gauges[..]].into_iter().zip(theirs)
        {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }
}

const PUBLISHED_LEN: usize = Counter::COUNT + DropReason::COUNT + Gauge::COUNT;

/// Where one shard publishes its counters; written by that shard alone. A scrape sees one batch's numbers together.
#[derive(Debug, Default)]
pub struct Published(CachePadded<SeqCell<PUBLISHED_LEN>>);

/// Under which a [`SeqCell`] holds the counters: there is nothing to be told apart.
const TAG: u32 = 0;

impl Published {
    /// Makes `counters` visible to scrapers.
    pub fn publish(&self, counters: &Counters) {
        let mut words = [0; PUBLISHED_LEN];
        let all = counters.counts.iter().chain(&counters.drops).chain(&counters.gauges);
        words.iter_mut().zip(all).for_each(|(word, value)| *word = *value);
        self.0.write(TAG, words);
    }

    /// The counters last published, as one set.
    #[must_use]
    pub fn snapshot(&self) -> Counters {
        loop {
            if let Some(words) = self.0.read(TAG) {
                let mut words = words.into_iter();
                let mut next = || words.next().unwrap_or_default();
                return Counters {
                    counts: std::array::from_fn(|_| next()),
                    drops: std::array::from_fn(|_| next()),
                    gauges: std::array::from_fn(|_| next()),
                };
            }
            std::thread::yield_now();
        }
    }
}

/// All shards' counters in the Prometheus text format.
#[must_use]
pub fn prometheus_text(shards: &[Counters]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, line: &dyn Fn(&mut String, usize, &Counters)| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (shard, counters) in shards.iter().enumerate() {
            line(&mut text, shard, counters);
        }
    };
    for counter in Counter::ALL {
        let name = format!("pilot_relay_{}_total", counter.label());
        family(&name, "counter", counter.help(), &|text, shard, counters| {
            let _ = writeln!(text, "{name}{{shard=\"{shard}\"}} {}", counters.get(*counter));
        });
    }
    family(
        "pilot_relay_datagrams_dropped_total",
        "counter",
        "Datagrams that went no further, by why.",
        &|text, shard, counters| {
            for reason in DropReason::ALL {
                let _ = writeln!(
                    text,
                    "pilot_relay_datagrams_dropped_total{{shard=\"{shard}\",reason=\"{}\"}} {}",
                    reason.label(),
                    counters.dropped(*reason)
                );
            }
        },
    );
    for gauge in Gauge::ALL {
        let name = format!("pilot_relay_{}", gauge.label());
        family(&name, "gauge", gauge.help(), &|text, shard, counters| {
            let _ = writeln!(text, "{name}{{shard=\"{shard}\"}} {}", counters.gauge(*gauge));
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read_and_written_out() {
        let mut counters = Counters::default();
        counters.add(Counter::Received, 7);
        counters.add(Counter::Forwarded, 6);
        counters.drop(DropReason::Malformed);
        counters.set(Gauge::Sessions, 3);
        let published = Published::default();
        published.publish(&counters);
        assert_eq!(published.snapshot(), counters);
        assert!(counters.balanced());
        let text = prometheus_text(&[counters]);
        for line in [
            "# HELP pilot_relay_datagrams_received_total Datagrams received, merged ones counted singly.",
            "pilot_relay_datagrams_received_total{shard=\"0\"} 7",
            "pilot_relay_datagrams_dropped_total{shard=\"0\",reason=\"malformed\"} 1",
            "pilot_relay_sessions{shard=\"0\"} 3",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
        }
    }
}
