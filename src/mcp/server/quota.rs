//! How much each principal may use of the endpoint: its rate of requests, and how many requests, bodies,
//! sessions and streams it may have at a time.
//!
//! Invariants: what is taken is given back by dropping what holds it; a principal without anything costs at
//! most one place of a bounded table. Not here: who a principal is, and the bounds of all of them together.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::{MAX_BODY, Refusal};
use crate::mcp::wire::{Id, code};
use crate::policy::Principal;

/// Parts of the table, each with a lock of its own.
const PARTS: usize = 16;
/// Principals in a part that use nothing now; beyond, the longest idle goes, and begins anew when it
/// comes back.
const IDLE: usize = 512;
/// How many seconds' worth of requests can come at once.
const BURST: u64 = 2;
/// When to come back after a limit of requests that are worked on: calls take some seconds.
const AFTER_REQUESTS: u64 = 1;
/// When to come back after a limit of sessions or streams, which last.
const AFTER_LASTING: u64 = 60;

/// The bounds of each principal. None: only those of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Requests per second, twice as many at once.
    pub rate: Option<u32>,
    /// Requests that are worked on at a time, and bodies on their way.
    pub requests: Option<u32>,
    /// Sessions at a time.
    pub sessions: Option<u32>,
    /// Streams that tell of changes, at a time.
    pub streams: Option<u32>,
    /// Bytes of one request.
    pub body: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { rate: None, requests: None, sessions: None, streams: None, body: MAX_BODY }
    }
}

/// What was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    Rate,
    Requests,
    Bodies,
    Sessions,
    Streams,
    /// Not of a principal: one body was too large.
    Body,
}

impl Excess {
    /// A word, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Requests => "requests",
            Self::Bodies => "bodies",
            Self::Sessions => "sessions",
            Self::Streams => "streams",
            Self::Body => "body",
        }
    }
}

/// Hears of each request that was refused for a limit.
pub type OnExcess = Arc<dyn Fn(Excess) + Send + Sync>;

/// The principals that used something lately.
pub(super) struct Users {
    quotas: Quotas,
    on_excess: OnExcess,
    began: Instant,
    hasher: RandomState,
    parts: [Mutex<HashMap<Box<str>, Arc<Usage>>>; PARTS],
}

/// What one principal uses.
#[derive(Debug, Default)]
struct Usage {
    /// When all its requests would have come, had they come evenly: nanoseconds after `began`.
    even: AtomicU64,
    /// When it last asked.
    asked: AtomicU64,
    held: [AtomicU32; 4],
}

/// A place among what one principal may have; given back when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Held(#[expect(dead_code, reason = "held, not read")] Option<Arc<Place>>);

#[derive(Debug)]
struct Place {
    usage: Arc<Usage>,
    of: Excess,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.usage.count(self.of) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What one principal may still use, as long as a request of it is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct User(Option<Arc<Usage>>);

impl Usage {
    /// Counts a request that comes `now`; else how long to wait. All in nanoseconds.
    fn take(&self, rate: u32, now: u64) -> Result<(), u64> {
        // The generic cell rate algorithm (ITU-T I.371): one number instead of a bucket and a clock.
        let each = 1_000_000_000 / u64::from(rate.max(1));
        let latest = now + (BURST * 1_000_000_000).max(each);
        let taken = self.even.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |even| {
            let next = even.max(now) + each;
            (next <= latest).then_some(next)
        });
        taken.map(drop).map_err(|even| (even.max(now) + each).saturating_sub(latest))
    }

    fn count(&self, of: Excess) -> Option<&AtomicU32> {
        let at = match of {
            Excess::Requests => 0,
            Excess::Bodies => 1,
            Excess::Sessions => 2,
            Excess::Streams => 3,
            Excess::Rate | Excess::Body => return None,
        };
        self.held.get(at)
    }
}

impl Users {
    pub(super) fn new(quotas: Quotas, on_excess: OnExcess) -> Self {
        let parts = std::array::from_fn(|_| Mutex::default());
        Self { quotas, on_excess, began: Instant::now(), hasher: RandomState::new(), parts }
    }

    /// Bytes that one body may have.
    pub(super) fn max_body(&self) -> usize {
        self.quotas.body
    }

    /// Where no principal has a limit, nothing is counted.
    pub(super) fn of(&self, principal: &Principal) -> User {
        let Quotas { rate, requests, sessions, streams, body: _ } = self.quotas;
        if rate.or(requests).or(sessions).or(streams).is_none() {
            return User::default();
        }
        let now = self.now();
        let name = principal.name.as_str();
        let part = usize::try_from(self.hasher.hash_one(name) % PARTS as u64).unwrap_or_default();
        let mut part = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = part.get(name) {
            usage.asked.store(now, Ordering::Relaxed);
            return User(Some(Arc::clone(usage)));
        }
        if part.len() >= IDLE {
            // Whatever is in use stays: connections and sessions, and thereby those, have bounds.
            let idle = part.iter().filter(|(_, usage)| Arc::strong_count(usage) == 1);
            let longest = idle.min_by_key(|(_, usage)| usage.asked.load(Ordering::Relaxed));
            if let Some(name) = longest.map(|(name, _)| name.clone()) {
                part.remove(&name);
            }
        }
        let usage = Arc::new(Usage::default());
        usage.asked.store(now, Ordering::Relaxed);
        part.insert(name.into(), Arc::clone(&usage));
        User(Some(usage))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts a request, and takes a place for it.
    ///
    /// # Errors
    /// When it is one too many.
    pub(super) fn request(&self, user: &User, id: &Id) -> Result<Held, Refusal> {
        self.rated(user, Some(id))?;
        self.hold(user, Excess::Requests, Some(id))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When it comes too early.
    pub(super) fn rated(&self, user: &User, id: Option<&Id>) -> Result<(), Refusal> {
        let (Some(usage), Some(rate)) = (&user.0, self.quotas.rate) else { return Ok(()) };
        let wait = usage.take(rate, self.now());
        wait.map_err(|wait| self.refuse(Excess::Rate, rate, wait.div_ceil(1_000_000_000).max(1), id))
    }

    /// Takes one place more of some kind.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn hold(&self, user: &User, of: Excess, id: Option<&Id>) -> Result<Held, Refusal> {
        self.try_hold(user, of).ok_or_else(|| {
            let lasting = matches!(of, Excess::Sessions | Excess::Streams);
            let after = if lasting { AFTER_LASTING } else { AFTER_REQUESTS };
            self.refuse(of, self.most(of).unwrap_or_default(), after, id)
        })
    }

    /// The same; none when there is no room.
    pub(super) fn try_hold(&self, user: &User, of: Excess) -> Option<Held> {
        let (Some(usage), Some(most)) = (&user.0, self.most(of)) else { return Some(Held(None)) };
        let count = usage.count(of)?;
        let more = |held: u32| (held < most).then(|| held + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Held(Some(Arc::new(Place { usage: Arc::clone(usage), of }))))
    }

    fn most(&self, of: Excess) -> Option<u32> {
        match of {
            Excess::Rate => self.quotas.rate,
            Excess::Requests | Excess::Bodies => self.quotas.requests,
            Excess::Sessions => self.quotas.sessions,
            Excess::Streams => self.quotas.streams,
            Excess::Body => None,
        }
    }

    /// Tells of a request that was refused.
    pub(super) fn exceeded(&self, what: Excess) {
        (self.on_excess)(what);
    }

    /// Says what was too much, to a model too: it is what most of these requests come from.
    fn refuse(&self, what: Excess, most: u32, after: u64, id: Option<&Id>) -> Refusal {
        self.exceeded(what);
        let what = match what {
            Excess::Rate => format!("more than {most} requests per second"),
            Excess::Requests | Excess::Bodies => format!("more than {most} requests at a time"),
            Excess::Sessions => format!("more than {most} sessions"),
            Excess::Streams => format!("more than {most} streams"),
            Excess::Body => "too large a request".to_owned(),
        };
        let message = format!("one caller may not have {what} here: wait {after} s, and try again");
        Refusal::error(StatusCode::TOO_MANY_REQUESTS, id, code::LIMIT_EXCEEDED, message)
            .after(Duration::from_secs(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(quotas: Quotas) -> Users {
        Users::new(quotas, Arc::new(|_| {}))
    }

    fn named(name: &str) -> Principal {
        Principal { name: name.to_owned(), ..Principal::default() }
    }

    #[test]
    fn a_rate_allows_a_burst_and_then_what_time_brings() {
        const SECOND: u64 = 1_000_000_000;
        let usage = Usage::default();
        let taken = |now: u64| std::iter::from_fn(|| usage.take(10, now).ok()).take(100).count();
        assert_eq!(taken(0), 20);
        assert_eq!(usage.take(10, 0), Err(SECOND / 10));
        assert_eq!(taken(SECOND / 2), 5);
        assert_eq!(taken(3600 * SECOND), 20);
        let slow = Usage::default();
        assert!(slow.take(1, 0).is_ok() && slow.take(1, 0).is_ok());
        assert_eq!(slow.take(1, SECOND / 4), Err(SECOND * 3 / 4));
        assert!(slow.take(1, SECOND).is_ok());
    }

    #[test]
    fn a_principal_that_asks_too_often_is_refused_and_others_are_not() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&heard);
        let quotas = Quotas { rate: Some(1), ..Quotas::default() };
        let users = Users::new(quotas, Arc::new(move |excess| record.lock().unwrap().push(excess)));
        let ada = users.of(&named("ada"));
        while users.rated(&ada, None).is_ok() {}
        let refused = users.rated(&ada, Some(&Id::number(7))).expect_err("none is left");
        assert_eq!(
            (refused.status, refused.after, refused.error.code),
            (StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(1)), code::LIMIT_EXCEEDED)
        );
        assert!(users.rated(&users.of(&named("eve")), None).is_ok());
        assert_eq!(*heard.lock().unwrap(), [Excess::Rate, Excess::Rate]);
    }

    #[test]
    fn places_are_given_back() {
        let users = users(Quotas { requests: Some(2), ..Quotas::default() });
        let ada = users.of(&named("ada"));
        let first = users.hold(&ada, Excess::Requests, None).expect("room");
        let clone = first.clone();
        let second = users.hold(&ada, Excess::Requests, None).expect("room");
        assert!(users.hold(&ada, Excess::Requests, None).is_err());
        drop(first);
        assert!(users.hold(&users.of(&named("ada")), Excess::Requests, None).is_err(), "a clone holds it");
        drop(clone);
        assert!(users.hold(&ada, Excess::Requests, None).is_ok());
        drop(second);
        let sessions: Vec<_> = (0..9).filter_map(|_| users.try_hold(&ada, Excess::Sessions)).collect();
        assert_eq!(sessions.len(), 9, "what has no limit is not counted");
    }

    #[test]
    fn principals_that_use_nothing_are_forgotten_and_those_that_do_are_not() {
        let users = users(Quotas { requests: Some(1), ..Quotas::default() });
        let busy = users.of(&named("busy"));
        let _held = users.hold(&busy, Excess::Requests, None).expect("room");
        drop(busy);
        for n in 0..100_000 {
            users.of(&named(&n.to_string()));
        }
        let known: usize = users.parts.iter().map(|part| part.lock().unwrap().len()).sum();
        assert!(known <= PARTS * IDLE, "{known}");
        assert!(users.hold(&users.of(&named("busy")), Excess::Requests, None).is_err());
    }

    /// What it costs is told by `--nocapture`; that it is little is checked with a wide margin.
    #[test]
    fn counting_costs_little() {
        let users = users(Quotas {
            rate: Some(u32::MAX),
            requests: Some(64),
            sessions: Some(1),
            streams: Some(1),
            body: MAX_BODY,
        });
        let (ada, id, rounds) = (named("ada"), Id::number(1), 100_000);
        let began = Instant::now();
        for _ in 0..rounds {
            let user = users.of(&ada);
            let _body = users.hold(&user, Excess::Bodies, None).expect("room");
            let _request = users.request(&user, &id).expect("room");
        }
        let each = began.elapsed() / rounds;
        println!("{each:?} for each request");
        assert!(each < Duration::from_micros(20), "{each:?}");
    }
}
