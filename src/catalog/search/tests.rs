//! How well tools are found: a written set of questions over tools as servers have them.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::*;
use crate::catalog::tests::{offered, revision, server};
use crate::catalog::{Catalog, Input, compose};
use crate::ports::Offer;

/// Server, tool, description, parameters.
const TOOLS: &[(&str, &str, &str, &str)] = &[
    ("files", "read_file", "Read the complete contents of a file from the file system", "path"),
    (
        "files",
        "write_file",
        "Create a new file or overwrite an existing file with new content",
        "path content",
    ),
    (
        "files",
        "edit_file",
        "Make line-based edits to a text file and show the difference",
        "path edits dryRun",
    ),
    ("files", "list_directory", "Get a listing of all files and directories in a given path", "path"),
    ("files", "directory_tree", "Get a recursive tree view of files and directories as JSON", "path"),
    ("files", "move_file", "Move or rename files and directories", "source destination"),
    (
        "files",
        "search_files",
        "Recursively search for files and directories that match a pattern",
        "path pattern",
    ),
    (
        "files",
        "get_file_info",
        "Retrieve metadata of a file: size, owner, permissions, when it was modified",
        "path",
    ),
    ("git", "status", "Shows the working tree status", "repo_path"),
    ("git", "diff_staged", "Shows changes that are staged for commit", "repo_path"),
    ("git", "commit", "Records changes to the repository", "repo_path message"),
    ("git", "log", "Shows the commit logs", "repo_path max_count"),
    (
        "git",
        "create_branch",
        "Creates a new branch from an optional base branch",
        "repo_path branch_name base_branch",
    ),
    ("git", "checkout", "Switches branches", "repo_path branch_name"),
    ("git", "blame", "Shows who last changed each line of a file", "repo_path file"),
    ("github", "create_issue", "Create a new issue in a GitHub repository", "owner repo title body labels"),
    (
        "github",
        "list_issues",
        "List issues in a GitHub repository with filtering options",
        "owner repo state",
    ),
    ("github", "add_issue_comment", "Add a comment to an existing issue", "owner repo issue_number body"),
    ("github", "create_pull_request", "Create a new pull request", "owner repo title head base"),
    ("github", "merge_pull_request", "Merge a pull request", "owner repo pull_number merge_method"),
    (
        "github",
        "get_pull_request_files",
        "Get the list of files changed in a pull request",
        "owner repo pull_number",
    ),
    ("github", "search_code", "Search for code across repositories", "q sort order"),
    ("github", "fork_repository", "Fork a repository to your account or an organization", "owner repo"),
    ("github", "list_workflow_runs", "List the runs of a workflow of GitHub Actions", "owner repo workflow"),
    ("k8s", "pods_list", "List the Kubernetes pods of a namespace", "namespace labelSelector"),
    ("k8s", "pods_log", "Get the logs of a Kubernetes pod", "namespace name tail"),
    ("k8s", "pods_exec", "Execute a command in a Kubernetes pod", "namespace name command"),
    ("k8s", "pods_delete", "Delete a Kubernetes pod", "namespace name"),
    ("k8s", "deployment_scale", "Scale a deployment to a number of replicas", "namespace name replicas"),
    ("k8s", "deployment_restart", "Restart the rollout of a deployment", "namespace name"),
    ("k8s", "nodes_top", "Show the CPU and memory use of nodes", ""),
    ("k8s", "events_list", "List the events of a cluster, newest first", "namespace"),
    ("k8s", "secrets_list", "List names of secrets; values are never shown", "namespace"),
    ("pg", "query", "Run a read-only SQL query", "sql"),
    ("pg", "list_tables", "List the tables of a schema with their columns", "schema"),
    ("pg", "explain", "Show the execution plan of a statement", "sql"),
    ("pg", "slow_queries", "List the statements that took longest", "limit"),
    ("pg", "backup", "Dump a database into object storage", "database bucket"),
    ("slack", "post_message", "Post a message to a Slack channel", "channel text"),
    ("slack", "list_channels", "List public channels of the workspace", "limit cursor"),
    ("slack", "add_reaction", "Add an emoji reaction to a message", "channel timestamp reaction"),
    ("slack", "get_users", "List the users of the workspace with their profiles", "cursor"),
    ("mail", "send", "Send an email with attachments", "to subject body attachments"),
    ("mail", "search", "Search the mailbox for messages", "query folder"),
    ("mail", "mark_read", "Mark messages as read or unread", "ids read"),
    ("cal", "create_event", "Create a calendar event with guests", "title start end guests"),
    ("cal", "free_busy", "Find when people are free", "people from to"),
    ("cal", "delete_event", "Cancel a calendar event and tell its guests", "id"),
    (
        "web",
        "fetch",
        "Fetches a URL from the internet and extracts its contents as markdown",
        "url max_length",
    ),
    ("web", "search", "Searches the web and returns ranked results", "query count"),
    ("web", "screenshot", "Take a screenshot of the current page or an element", "name selector"),
    ("web", "click", "Click an element on a page", "selector"),
    ("web", "fill", "Fill out an input field of a form", "selector value"),
    ("maps", "geocode", "Convert an address into geographic coordinates", "address"),
    (
        "maps",
        "directions",
        "Get directions between two points by car, bicycle or on foot",
        "origin destination mode",
    ),
    ("maps", "elevation", "Get the height above sea level of locations", "locations"),
    ("weather", "forecast", "Forecast for a place for the next days", "latitude longitude days"),
    ("weather", "alerts", "Active warnings of storms, floods and heat", "state"),
    ("time", "get_current_time", "Get current time in a specific timezone", "timezone"),
    ("time", "convert_time", "Convert time between timezones", "source_timezone time target_timezone"),
    ("cloud", "list_buckets", "List storage buckets of the account", "region"),
    ("cloud", "upload_object", "Upload an object to a storage bucket", "bucket key body"),
    ("cloud", "start_instance", "Start a virtual machine that is stopped", "instance_id"),
    ("cloud", "stop_instance", "Stop a running virtual machine", "instance_id"),
    ("cloud", "cost_report", "Costs by service and month", "from to group_by"),
    ("cloud", "rotate_key", "Replace an access key and revoke the former one", "user"),
    ("mon", "query_metrics", "Evaluate a PromQL expression over a range of time", "expr start end step"),
    ("mon", "list_alerts", "List alerts that are firing now", "severity"),
    ("mon", "silence_alert", "Silence an alert for a while", "matchers duration comment"),
    ("mon", "create_dashboard", "Create a dashboard of panels", "title panels"),
    ("pager", "who_is_on_call", "Tells who is on call for a service", "service"),
    ("pager", "acknowledge", "Acknowledge an incident", "incident_id"),
    ("docs", "translate", "Translate text between languages", "text target_language"),
    ("docs", "summarize", "Summarize a long document in a few sentences", "document length"),
    ("docs", "ocr", "Extract text from a scanned picture", "image"),
    ("docs", "pdf_to_text", "Convert a PDF document to plain text", "file pages"),
    ("mem", "create_entities", "Create entities in the knowledge graph", "entities"),
    ("mem", "search_nodes", "Search for nodes in the knowledge graph", "query"),
    ("math", "evaluate", "Evaluate an arithmetic expression", "expression"),
    ("math", "convert_units", "Convert a quantity between units of measurement", "value from to"),
    ("math", "exchange_rate", "Convert an amount between currencies at today's rate", "amount from to"),
    ("img", "resize", "Resize an image to a width and height", "image width height"),
    ("img", "generate", "Generate a picture from a description", "prompt size"),
    ("tls", "check_certificate", "Show when the certificate of a host expires", "host port"),
    ("dns", "lookup", "Resolve a domain name to its records", "name type"),
    ("net", "ping", "Measure the round trip to a host", "host count"),
    ("sec", "scan_image", "Scan a container image for vulnerabilities", "image severity"),
    ("sec", "scan_secrets", "Look for credentials in a repository", "repository"),
];

/// A question as a model or a person puts it, and the tool that is meant.
const QUESTIONS: &[(&str, &str)] = &[
    ("read a file", "files_read_file"),
    ("show me what is in this folder", "files_list_directory"),
    ("rename a file", "files_move_file"),
    ("how big is this file and who owns it", "files_get_file_info"),
    ("find files by name pattern", "files_search_files"),
    ("overwrite the contents of a file", "files_write_file"),
    ("who wrote this line", "git_blame"),
    ("history of commits", "git_log"),
    ("switch to another branch", "git_checkout"),
    ("make a new branch", "git_create_branch"),
    ("open a bug report", "github_create_issue"),
    ("open tickets of a repository", "github_list_issues"),
    ("merge PR", "github_merge_pull_request"),
    ("which files does the pull request change", "github_get_pull_request_files"),
    ("reply on an issue with a comment", "github_add_issue_comment"),
    ("CI runs", "github_list_workflow_runs"),
    ("why did my pod crash, show its logs", "k8s_pods_log"),
    ("remove a pod", "k8s_pods_delete"),
    ("run a shell command inside a pod", "k8s_pods_exec"),
    ("change the number of replicas", "k8s_deployment_scale"),
    ("restart the deployment", "k8s_deployment_restart"),
    ("memory usage of the cluster nodes", "k8s_nodes_top"),
    ("run SQL against the database", "pg_query"),
    ("which tables exist", "pg_list_tables"),
    ("why is this query slow", "pg_slow_queries"),
    ("back up the database", "pg_backup"),
    ("tell the team on slack", "slack_post_message"),
    ("react with an emoji", "slack_add_reaction"),
    ("write an email to a customer", "mail_send"),
    ("schedule a meeting", "cal_create_event"),
    ("when is everybody available", "cal_free_busy"),
    ("cancel the appointment", "cal_delete_event"),
    ("download a web page", "web_fetch"),
    ("google something", "web_search"),
    ("take a picture of the page", "web_screenshot"),
    ("route from A to B by bike", "maps_directions"),
    ("coordinates of an address", "maps_geocode"),
    ("will it rain tomorrow", "weather_forecast"),
    ("storm warnings", "weather_alerts"),
    ("what time is it in Tokyo", "time_get_current_time"),
    ("launch a VM", "cloud_start_instance"),
    ("shut down the virtual machine", "cloud_stop_instance"),
    ("how much did we spend last month", "cloud_cost_report"),
    ("put a file into a bucket", "cloud_upload_object"),
    ("which alerts are firing", "mon_list_alerts"),
    ("mute an alarm", "mon_silence_alert"),
    ("who is on call", "pager_who_is_on_call"),
    ("translate to German", "docs_translate"),
    ("text of a scanned document", "docs_ocr"),
    ("convert dollars to euros", "math_exchange_rate"),
    ("make the image smaller", "img_resize"),
    ("draw a picture of a cat", "img_generate"),
    ("does the TLS certificate expire soon", "tls_check_certificate"),
    ("vulnerabilities in a docker image", "sec_scan_image"),
    ("leaked passwords in the repo", "sec_scan_secrets"),
    ("resolve a domain", "dns_lookup"),
];

fn catalog() -> Catalog {
    let servers: BTreeSet<&str> = TOOLS.iter().map(|(server, ..)| *server).collect();
    let offers = servers.into_iter().map(|name| {
        let own = TOOLS.iter().filter(|(server, ..)| *server == name);
        let tools = own.map(|(_, tool, description, parameters)| {
            let properties: Map<String, Value> = parameters
                .split_whitespace()
                .map(|name| (name.to_owned(), json!({"type": "string"})))
                .collect();
            let schema = json!({"type": "object", "properties": properties});
            json!({"name": tool, "description": description, "inputSchema": schema}).to_string().into()
        });
        offered(server(name), Offer { tools: tools.collect(), ..Offer::default() })
    });
    let servers: Vec<_> = offers.collect();
    let (catalog, reports) =
        compose(&Input { revision: &revision(1), servers: &servers, tools: &[], previous: None });
    assert_eq!(reports, []);
    catalog
}

/// Share of questions whose tool is among the first so many.
#[expect(clippy::cast_precision_loss, reason = "a few dozen")]
fn recall(index: &Index, first: usize) -> (f64, Vec<&'static str>) {
    let missed = QUESTIONS.iter().filter(|(question, meant)| {
        let hits = index.search(question);
        assert!(TOOLS.iter().any(|(server, tool, ..)| format!("{server}_{tool}") == **meant), "{meant}");
        !hits.iter().take(first).any(|hit| *hit.entry.name == **meant)
    });
    let missed: Vec<&str> = missed.map(|(question, _)| *question).collect();
    (1.0 - missed.len() as f64 / QUESTIONS.len() as f64, missed)
}

#[test]
fn nine_questions_of_ten_find_their_tool_among_the_first_five() {
    let index = Index::of(catalog().tools.values().cloned());
    assert_eq!(index.len(), TOOLS.len());
    let ((five, missed), (one, _)) = (recall(&index, 5), recall(&index, 1));
    assert!(five >= 0.9, "recall@5 {five:.2}, recall@1 {one:.2}; missed: {missed:?}");
    assert!(one >= 0.65, "recall@1 {one:.2}");
}

#[test]
fn what_is_found_is_explained_ordered_and_bounded() {
    let index = Index::of(catalog().tools.values().cloned());
    let hits = index.search("Deleting a Kubernetes pod");
    let first = hits.first().expect("a hit");
    assert_eq!(
        (&*first.entry.name, first.matched.as_slice()),
        ("k8s_pods_delete", &["delete", "kubernetes", "pods"][..])
    );
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let again: Vec<_> =
        index.search("Deleting a Kubernetes pod").iter().map(|hit| Arc::clone(&hit.entry.name)).collect();
    assert!(hits.iter().map(|hit| &hit.entry.name).eq(&again));
    assert_eq!(&*index.search("screensh").first().expect("a beginning").entry.name, "web_screenshot");
    for nothing in ["", "   ", "the of and", "xyzzy", "\u{0}\u{1F600}"] {
        assert!(index.search(nothing).is_empty(), "{nothing:?}");
    }
    // A question of any length costs what its first words cost.
    assert!(!index.search(&"pod ".repeat(100_000)).is_empty());
    assert!(Index::default().search("pod").is_empty());
}
