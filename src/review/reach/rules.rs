//! What holds things back: policies, trust and locks, the safety settings of the Crib, access to toolsets.

use serde_json::Value;

use super::{concern, ids, spec_of};
use crate::manifest::Declared;
use crate::resource::policy::Enforcement;
use crate::resource::{Kind, ResourceId, Spec};
use crate::review::{Concern, Side};

pub(super) fn compare(sides: (&Side<'_>, &Side<'_>)) -> Vec<Concern> {
    let mut concerns = Vec::new();
    for id in ids(sides) {
        let (was, now) = (sides.0.manifest.resources.get(&id), sides.1.manifest.resources.get(&id));
        match (id.kind, was, now) {
            (Kind::Policy, Some(was), None) if !sides.1.manifest.faulty.contains(&id) => {
                let found = (true, "policy-removed", "is removed, and holds nothing back any more");
                concerns.push(concern(&id, found, (None, None), Some(was.place.clone())));
            }
            (Kind::Policy, Some(was), Some(now)) => policy(&id, (was, now), sides, &mut concerns),
            (Kind::Server, was, Some(now)) => server(&id, was.map(AsRef::as_ref), now, sides, &mut concerns),
            (Kind::Crib, Some(was), Some(now)) => {
                crib(&id, was, now, &mut concerns);
                signers(&id, now, sides, &mut concerns);
            }
            (Kind::Crib, Some(was), None) => {
                let says = "is removed, with its settings for safety";
                concerns.push(concern(
                    &id,
                    (true, "crib-removed", says),
                    (None, None),
                    Some(was.place.clone()),
                ));
            }
            (Kind::Toolset, Some(was), Some(now)) => toolset(&id, was, now, &mut concerns),
            _ => {}
        }
    }
    concerns
}

fn policy(
    id: &ResourceId,
    (was, now): (&Declared, &Declared),
    (before, after): (&Side<'_>, &Side<'_>),
    concerns: &mut Vec<Concern>,
) {
    let (Spec::Policy(old), Spec::Policy(new)) = (&was.spec, &now.spec) else { return };
    if old.enforcement == Enforcement::Deny && new.enforcement == Enforcement::Audit {
        let says = "only records what it refused before";
        let place = Some(now.place_of(&["spec", "enforcement"]));
        concerns.push(concern(id, (true, "policy-loosened", says), (None, None), place));
    }
    for point in old.points.iter().filter(|point| !new.points.contains(point)) {
        let point = serde_json::to_value(point).unwrap_or_default();
        let told = (Some(super::plain(&point)), None);
        let place = Some(now.place_of(&["spec", "points"]));
        concerns.push(concern(id, (true, "policy-loosened", "is not asked any more at"), told, place));
    }
    let server = |declared: &Declared| {
        spec_of(declared).pointer("/opa/url").and_then(Value::as_str).map(str::to_owned)
    };
    if server(was) != server(now) {
        let place = Some(now.place_of(&["spec", "opa", "url"]));
        let says = "is answered by another server";
        concerns.push(concern(id, (true, "policy-elsewhere", says), (server(was), server(now)), place));
    }
    let digest = |side: &Side<'_>| side.desired.policies.get(&id.name).map(|policy| policy.digest);
    if digest(before) != digest(after) {
        let says = "has other rules; who may call what is told below for the declared roles";
        concerns.push(concern(id, (false, "rules", says), (None, None), Some(now.place.clone())));
    }
}

/// How far a server is believed: the larger, the less.
fn caution(trust: &str) -> u8 {
    match trust {
        "locked" => 2,
        "reviewed" => 1,
        _ => 0,
    }
}

fn server(
    id: &ResourceId,
    was: Option<&Declared>,
    now: &Declared,
    (before, after): (&Side<'_>, &Side<'_>),
    concerns: &mut Vec<Concern>,
) {
    let locked = |side: &Side<'_>| side.manifest.locks.contains_key(id);
    let trust = |declared: &Declared, side: &Side<'_>| {
        let spec = spec_of(declared);
        let declared = spec.pointer("/tools/trust").and_then(Value::as_str).map(str::to_owned);
        declared.unwrap_or_else(|| if locked(side) { "reviewed" } else { "live" }.to_owned())
    };
    let Some(was) = was else { return };
    let (old, new) = (trust(was, before), trust(now, after));
    let place = Some(now.place_of(&["spec", "tools", "trust"]));
    if caution(&new) < caution(&old) {
        let says = "is believed more in what it offers";
        concerns.push(concern(id, (true, "trust", says), (Some(old), Some(new)), place));
    }
    if locked(before) && !locked(after) {
        let says = "has no lock any more: nobody reviewed what it offers";
        concerns.push(concern(id, (true, "lock-removed", says), (None, None), Some(now.place.clone())));
    }
}

fn crib(id: &ResourceId, was: &Declared, now: &Declared, concerns: &mut Vec<Concern>) {
    let (old, new) = (spec_of(was), spec_of(now));
    let mut tell = |code, says: &str, told, field: &[&str]| {
        concerns.push(concern(id, (true, code, says), told, Some(now.place_of(field))));
    };
    let budget = |spec: &Value| spec.pointer("/sync/pruneBudget").and_then(Value::as_u64).unwrap_or_default();
    if budget(&new) > budget(&old) {
        let told = (Some(format!("{} %", budget(&old))), Some(format!("{} %", budget(&new))));
        tell(
            "prune-budget",
            "may prune more in one pass without approval",
            told,
            &["spec", "sync", "pruneBudget"],
        );
    }
    let verify =
        |spec: &Value| spec.get("verify").filter(|verify| !verify.is_null()).map(ToString::to_string);
    if verify(&old).is_some() && verify(&old) != verify(&new) {
        tell("verify", "checks signatures in another way", (verify(&old), verify(&new)), &["spec", "verify"]);
    }
    let operators =
        |spec: &Value| spec.get("operators").filter(|who| !who.is_null()).map(ToString::to_string);
    if operators(&old) != operators(&new) {
        let told = (operators(&old), operators(&new));
        tell("operators", "lets others use the endpoint for operators", told, &["spec", "operators"]);
    }
    let kinds = |spec: &Value| -> Vec<String> {
        let listed = spec.pointer("/sync/protect").and_then(Value::as_array);
        listed.into_iter().flatten().map(super::plain).collect()
    };
    for kind in kinds(&old).into_iter().filter(|kind| !kinds(&new).contains(kind)) {
        tell("protection", "does not protect any more", (Some(kind), None), &["spec", "sync", "protect"]);
    }
}

/// Whose commits are followed: also a file that changed, where the Crib did not.
fn signers(
    id: &ResourceId,
    now: &Declared,
    (before, after): (&Side<'_>, &Side<'_>),
    concerns: &mut Vec<Concern>,
) {
    let (Some(old), Some(new)) = (&before.desired.signers, &after.desired.signers) else { return };
    let place = || Some(now.place_of(&["spec", "verify", "allowedSigners"]));
    for signer in new.iter().filter(|signer| !old.iter().any(|other| other == *signer)) {
        let found = (true, "signer", "follows commits that are signed by");
        concerns.push(concern(id, found, (None, Some(signer.told())), place()));
    }
    for signer in old.iter().filter(|signer| !new.iter().any(|other| other == *signer)) {
        let found = (false, "signer-removed", "does not follow commits any more that are signed by");
        concerns.push(concern(id, found, (Some(signer.told()), None), place()));
    }
}

fn toolset(id: &ResourceId, was: &Declared, now: &Declared, concerns: &mut Vec<Concern>) {
    let (old, new) = (spec_of(was), spec_of(now));
    let access = |spec: &Value| spec.get("access").filter(|access| !access.is_null()).cloned();
    let place = Some(now.place_of(&["spec", "access"]));
    let (Some(old), new) = (access(&old), access(&new)) else { return };
    let Some(new) = new else {
        let says = "may be used by everybody now";
        return concerns.push(concern(id, (true, "toolset-access", says), (None, None), place));
    };
    for field in ["users", "groups"] {
        let names = |access: &Value| -> Vec<String> {
            access.get(field).and_then(Value::as_array).into_iter().flatten().map(super::plain).collect()
        };
        for name in names(&new).into_iter().filter(|name| !names(&old).contains(name)) {
            let says = format!("may be used by more {field}:");
            concerns.push(concern(id, (true, "toolset-access", &says), (None, Some(name)), place.clone()));
        }
    }
}
