//! Registration elsewhere: when to try, and what is told about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::publish::Published;
use crate::ports::{PortResult, Publisher as _};
use crate::registrar::{Registrar, Report};
use crate::registration::{Wanted, wanted};
use crate::resource::ResourceId;
use crate::resource::crib::Registration;
use crate::status::{RegistrationStatus, Status};

/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Changes that follow closely on one another are told together.
const TOGETHER: Duration = Duration::from_millis(100);

/// Follows what is published and keeps registration APIs in step, until the daemon ends.
pub(super) async fn keep(
    published: Arc<Published>,
    registrar: Registrar,
    endpoint: String,
    ended: CancellationToken,
) {
    let mut changed = published.changed.subscribe();
    let mut waits: BTreeMap<String, (u32, Instant)> = BTreeMap::new();
    loop {
        let next = waits.values().map(|(_, at)| *at).min();
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel-safe: all.
            () = ended.cancelled() => return,
            () = timer => {}
            changed = changed.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(TOGETHER).await;
            }
        }
        let round = async {
            if let Err(error) = pass(&published, &registrar, &endpoint, &mut waits).await {
                tracing::error!(error = %error.chain(), "failed to keep registrations in step");
            }
        };
        tokio::select! {
            // What was sent is recorded before, and found again.
            () = ended.cancelled() => return,
            () = round => {}
        }
        // Whatever happened, nothing is tried again without a pause.
        let soonest = Instant::now() + FIRST_WAIT;
        for (_, at) in waits.values_mut() {
            *at = soonest.max(*at);
        }
    }
}

async fn pass(
    published: &Published,
    registrar: &Registrar,
    endpoint: &str,
    waits: &mut BTreeMap<String, (u32, Instant)>,
) -> PortResult<()> {
    let Some(catalog) = published.current() else { return Ok(()) };
    let status = published.status.load_full();
    // Before the first status nobody knows what is declared.
    if status.served.is_none() || status.resources.is_empty() && !catalog.tools.is_empty() {
        return Ok(());
    }
    let declared = published.register.borrow().clone();
    let known = registrar.known()?;
    let is_declared = |url: &str| declared.iter().any(|registration| registration.url == url);
    waits.retain(|url, _| is_declared(url) || known.contains_key(url));
    if declared.is_empty() && known.is_empty() {
        return Ok(());
    }
    let tools = wanted(&catalog, endpoint, registrar.mark());
    let nothing = BTreeMap::new();
    let gone: Vec<Registration> = known
        .iter()
        .filter(|(url, _)| !is_declared(url))
        .map(|(url, known)| known.registration(url))
        .collect();
    let mut told = Vec::new();
    let all =
        declared.iter().map(|registration| (registration, true)).chain(gone.iter().map(|old| (old, false)));
    for (registration, stays) in all {
        let now = Instant::now();
        if waits.get(&registration.url).is_some_and(|(_, at)| *at > now) {
            let before = published.registered.load();
            told.extend(before.iter().find(|status| status.url == registration.url).cloned());
            continue;
        }
        let settled = |owner: &ResourceId| !stays || is_settled(&status, owner);
        let report =
            one(registrar, registration, if stays { &tools } else { &nothing }, settled, waits).await?;
        if stays || report.tools > 0 || !report.failures.is_empty() {
            told.push(status_of(&report));
        } else {
            registrar.forget(&registration.url)?;
        }
    }
    published.registered.store(Arc::new(told));
    Ok(())
}

/// One round at one address, and when the next one is.
async fn one(
    registrar: &Registrar,
    registration: &Registration,
    tools: &BTreeMap<String, Wanted>,
    settled: impl Fn(&ResourceId) -> bool + Send + Sync,
    waits: &mut BTreeMap<String, (u32, Instant)>,
) -> PortResult<Report> {
    let report = registrar.bring(registration, tools, settled).await?;
    let url = registration.url.clone();
    if report.failures.is_empty() {
        waits.remove(&url);
        if report.requests > 0 {
            tracing::info!(%url, tools = report.tools, requests = report.requests, "registered");
        }
        return Ok(report);
    }
    let failures = waits.get(&url).map_or(0, |(failures, _)| *failures);
    let wait =
        (FIRST_WAIT * 2_u32.pow(failures.min(9))).min(LONGEST_WAIT).max(report.wait.unwrap_or_default());
    tracing::warn!(%url, wait = wait.as_secs(), "registration failed: {}", report.failures.join("; "));
    waits.insert(url, (failures + 1, Instant::now() + wait));
    Ok(report)
}

/// Whether it is known what a resource offers: it is ready, or declared no more.
fn is_settled(status: &Status, owner: &ResourceId) -> bool {
    status.resources.get(owner).is_none_or(|resource| resource.ready() == Some(true))
}

fn status_of(report: &Report) -> RegistrationStatus {
    RegistrationStatus {
        url: report.url.clone(),
        tools: report.tools as u64,
        ready: report.failures.is_empty(),
        message: report.failures.join("; "),
    }
}
