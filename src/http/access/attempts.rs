//! How often an address may show tokens whose signature has to be checked and does not hold.
//!
//! A static token costs one hash to look up and a token that was checked before the same, which is less
//! than to read the request; those are never refused here. What costs is a signature, and anybody can write
//! a token that has one. Invariant: a bounded table, whoever asks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between failures of one address, over time: one core checks some thousand in a second.
const EACH: Duration = Duration::from_millis(100);
/// Failures at once: a proxy brings everybody's, among them tokens that have just expired.
const BURST: Duration = Duration::from_secs(10);
/// Addresses with failures that are remembered. Those beyond share one place.
const MAX: usize = 10_000;

/// Failures by address: when all of them would have come, had they come evenly.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Instant>>);

impl Attempts {
    /// # Errors
    /// How long to wait, when there were too many failures.
    pub(super) fn allows(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let known = self.known();
        let even = known.get(&place(&known, address)).copied();
        match even
            .and_then(|even| even.checked_duration_since(now))
            .and_then(|even| (even + EACH).checked_sub(BURST))
        {
            Some(over) if !over.is_zero() => Err(over),
            _ => Ok(()),
        }
    }

    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut known = self.known();
        if known.len() >= MAX {
            known.retain(|_, even| *even > now);
        }
        let address = place(&known, address);
        let even = known.entry(address).or_insert(now);
        *even = (*even).max(now) + EACH;
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of all that find no place: no peer has this address.
const OTHERS: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

/// Where an address is counted. One that uses IPv6 has a network of 64 bits to choose from.
fn place(known: &HashMap<IpAddr, Instant>, address: IpAddr) -> IpAddr {
    let network = match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    };
    if known.contains_key(&network) || known.len() < MAX { network } else { OTHERS }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn failures_are_counted_by_address_and_forgotten_with_time() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (eve, ada) = (address("2001:db8::1"), address("192.0.2.1"));
        let mut failures = 0;
        while attempts.allows(eve, now).is_ok() {
            attempts.failed(eve, now);
            failures += 1;
        }
        assert_eq!(failures, 100);
        assert!(attempts.allows(address("2001:db8::2"), now).is_err(), "of the same network");
        assert!(attempts.allows(ada, now).is_ok());
        assert!(attempts.allows(address("2001:db8:0:1::1"), now).is_ok());
        assert!(attempts.allows(eve, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..50_000_u32 {
            attempts.failed(IpAddr::V4(n.into()), now);
        }
        assert!(attempts.known().len() <= MAX + 1);
        assert!(attempts.allows(address("2001:db8::1"), now).is_err(), "those without a place share one");
        attempts.failed(address("2001:db8::1"), now + Duration::from_hours(2));
        assert_eq!(attempts.known().len(), 1);
    }
}
