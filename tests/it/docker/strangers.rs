//! What is not ours stays as it is; what is half ours is made whole.

use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder,
};
use toolcrib::live::InstanceId;

use super::*;

async fn create(place: &Place, name: &str, labels: &[(&str, &str)]) -> String {
    let labels: HashMap<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    place.engine.create_container(Some(options), body).await.unwrap().id
}

/// What the runner of a place calls the container of an instance.
fn container(place: &Place, instance: &str) -> String {
    format!("toolcrib-{}-{instance}", Digest::of("docker-container", &place.owner).short())
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_others_are_not_touched() {
    let place = Place::new("strangers").await;
    let digest = Digest::of_bytes(b"x").to_string();
    let other = format!("{}-other", place.owner);
    let labels = [
        ("dev.toolcrib/owner", other.as_str()),
        ("dev.toolcrib/runner", "local"),
        ("dev.toolcrib/role", "run"),
        ("dev.toolcrib/kind", "Server"),
        ("dev.toolcrib/name", "server"),
        ("dev.toolcrib/digest", digest.as_str()),
        ("dev.toolcrib/revision", "main"),
        ("dev.toolcrib/instance", "x"),
    ];
    let run = create(&place, &place.name("foreign-run"), &labels).await;
    let mut labels = labels;
    labels[2].1 = "server";
    let server = create(&place, &place.name("foreign-server"), &labels).await;
    let plain = create(&place, &place.name("plain"), &[]).await;

    assert!(place.runner.observe().await.unwrap().is_empty());
    place.runner.sweep().await.unwrap();
    place.runner.collect(&BTreeSet::new()).await.unwrap();
    for id in [&server, &plain] {
        let instance = InstanceId(id.clone());
        assert!(place.runner.stop(&instance, Duration::ZERO).await.unwrap_err().chain().contains("not ours"));
        assert!(place.runner.connect(&instance).await.err().unwrap().chain().contains("not ours"));
    }
    // Two daemons may have instances of the same name on one engine.
    let identity = identity(&place.name("same"));
    let workload = workload(BUSYBOX, &["cat"], Transport::Stdio);
    let one = within(place.runner.start(&identity, &workload, Material::default())).await.unwrap();
    let neighbour = Place::new("neighbour").await;
    let two = within(neighbour.runner.start(&identity, &workload, Material::default())).await.unwrap();
    assert_eq!(place.runner.observe().await.unwrap(), [one]);
    assert_eq!(neighbour.runner.observe().await.unwrap(), [two]);
    // And names that others took are theirs.
    let taken = create(&place, &container(&neighbour, "taken"), &[]).await;
    let wanted = Identity { name: "taken".to_owned(), ..identity };
    let refused = neighbour.runner.start(&wanted, &workload, Material::default()).await.unwrap_err();
    assert!(refused.chain().contains("not ours"), "{}", refused.chain());
    neighbour.finish().await;

    for id in [run, server, plain, taken] {
        place.engine.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        place.engine.remove_container(&id, Some(options)).await.unwrap();
    }
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_container_of_ours_is_seen_and_made_anew() {
    let place = Place::new("halfmade").await;
    let identity = identity(&place.name("server"));
    let digest = identity.digest.to_string();
    let labels = [
        ("dev.toolcrib/owner", place.owner.as_str()),
        ("dev.toolcrib/runner", "local"),
        ("dev.toolcrib/role", "server"),
        ("dev.toolcrib/kind", "Server"),
        ("dev.toolcrib/name", "server"),
        ("dev.toolcrib/digest", digest.as_str()),
        ("dev.toolcrib/revision", "main"),
        ("dev.toolcrib/instance", identity.name.as_str()),
    ];
    let half = create(&place, &container(&place, &identity.name), &labels).await;
    let found = place.runner.observe().await.unwrap();
    assert_eq!(found[0].id.0, half);
    assert_eq!(found[0].state, toolcrib::live::InstanceState::Exited { code: None });

    let workload = workload(BUSYBOX, &["cat"], Transport::Stdio);
    let whole = within(place.runner.start(&identity, &workload, Material::default())).await.unwrap();
    assert_eq!(place.runner.observe().await.unwrap(), std::slice::from_ref(&whole));
    assert_ne!(whole.id.0, half);
    place.finish().await;
}
