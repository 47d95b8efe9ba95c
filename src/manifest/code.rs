//! The codes of diagnostics: what each means whenever it is met, and what to do about it.
//!
//! A code is a contract with scripts and code scanners: it is never given a second meaning. Not here:
//! what a single diagnostic says of its place.

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// In kebab case, as it stands in brackets: `unknown-field`.
    pub id: &'static str,
    /// What is wrong, a sentence.
    pub meaning: &'static str,
    /// What to do, one or two sentences.
    pub help: &'static str,
}

/// The row of a code.
pub fn find(id: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.id == id)
}

const fn code(id: &'static str, meaning: &'static str, help: &'static str) -> Code {
    Code { id, meaning, help }
}

/// Every code there is, in the order of names.
pub const CODES: &[Code] = &[
    code(
        "conflict",
        "A variable or file is declared twice, differently: by a workload and an integration, or by two.",
        "Give it once. Nothing silently wins over the other.",
    ),
    code(
        "contract-arguments",
        "A contract test calls a tool with arguments that its schema does not take.",
        "Correct the arguments, or expect an error with `expect: {error: true}`.",
    ),
    code(
        "contract-tool",
        "A contract test calls a tool that the server's lock does not list.",
        "Correct the name, or write the lock anew with `toolcrib lock NAME`.",
    ),
    code(
        "cycle",
        "Resources wait for each other in a circle.",
        "Remove one of the references; the message prints the whole circle.",
    ),
    code(
        "duplicate-key",
        "A mapping has the same key twice.",
        "Keep one of them. YAML gives no meaning to the second, and programs differ in which they take.",
    ),
    code(
        "duplicate-name",
        "Two documents declare a resource of the same kind and name.",
        "Rename one of them or remove it.",
    ),
    code(
        "egress-not-held",
        "What may be reached is declared for something that nothing holds to it: a process, or a server elsewhere.",
        "Run it in a container, or remove `egress`.",
    ),
    code(
        "faulty-reference",
        "A resource refers to another one that is declared with a fault.",
        "Correct the other one first.",
    ),
    code(
        "floor-local-git",
        "A Git source is a path of the daemon's machine, which its operator does not allow.",
        "Name the repository by https or ssh, or start the daemon with --allow-local-git.",
    ),
    code(
        "floor-privileges",
        "A container asks for rights which the operator of the daemon does not allow.",
        "Remove the field, or ask the operator to start the daemon with --allow-privileges.",
    ),
    code(
        "floor-process",
        "A process runner is used, which the operator of the daemon does not allow.",
        "Use a container runner, follow a local repository, or start the daemon with --allow-process.",
    ),
    code(
        "git-unavailable",
        "A ref of a Git source cannot be found.",
        "Check the address, the ref and the credentials.",
    ),
    code(
        "hidden-text",
        "A text that a model reads holds something a person does not see.",
        "Remove it. The hint shows it written out.",
    ),
    code(
        "image-unavailable",
        "An image cannot be had on its runner.",
        "Check the name and the tag, and that the registry can be reached.",
    ),
    code(
        "impossible-selector",
        "A selector of a `Toolset` fits nothing that is declared.",
        "Check the spelling of labels and names; all that one selector says has to fit.",
    ),
    code(
        "instructs-model",
        "A text that a model reads gives the model orders.",
        "Say what the tool does and what its parameters are, and leave to its user what to do with it.",
    ),
    code(
        "invalid-schema",
        "A JSON Schema is none by the rules of its own draft, or refers to what is not in it.",
        "Correct it at the place that is named. Without `$schema` the draft is 2020-12.",
    ),
    code(
        "invalid-signers",
        "A file of allowed signers cannot be read, or says something that is not checked.",
        "Write a line `name@example.com ssh-ed25519 AAAA…` for everybody who signs; certificates are not supported.",
    ),
    code(
        "invalid-value",
        "A value has the right type, and cannot be used.",
        "The message says what is wanted in this field.",
    ),
    code(
        "long-name",
        "A published name is longer than clients take, or so long that some may not take it.",
        "Give it a shorter name with `publishAs`, or the server a shorter `tools.prefix`.",
    ),
    code(
        "merge-key",
        "A merge key (`<<`) is used.",
        "Write the fields out. Merge keys are not part of YAML 1.2, and hide from a reviewer what is said.",
    ),
    code("missing-field", "A field that has to be there is missing.", "Add the field."),
    code(
        "name-collision",
        "Several resources publish the same name.",
        "Give one of them another name or prefix. At run time who has the name keeps it.",
    ),
    code(
        "no-base-image",
        "No image is named to build on.",
        "Name one in `base` of the source, or for all in `defaults.images` of the `Crib`.",
    ),
    code("no-runner", "No runner is declared that can run this.", "Declare a `Runner`."),
    code(
        "no-such-file",
        "A file or folder that is named is not in this revision.",
        "Add and commit it, or correct the path: it is relative to the file that names it.",
    ),
    code(
        "no-such-folder",
        "A file is named where a folder is wanted.",
        "Name the folder that holds the Dockerfile.",
    ),
    code(
        "not-exactly-one",
        "Of several fields exactly one has to be given.",
        "Keep one of them, or add one of them.",
    ),
    code(
        "not-executable",
        "A program of the repository is not executable.",
        "Make it so with `git update-index --chmod=+x`, or name the interpreter first.",
    ),
    code(
        "not-supported",
        "A field or form is known, and this version does not have what it asks for.",
        "Remove it: the hint says what is done instead. A field is obeyed or refused, never passed over.",
    ),
    code("not-text", "A file is not UTF-8 text.", "Save it as UTF-8, or name it in `.toolcribignore`."),
    code(
        "outside-context",
        "A Dockerfile is not inside its build context.",
        "Name it relative to the context, or choose a context that holds it.",
    ),
    code(
        "outside-repository",
        "A path leaves the repository.",
        "Name a file or folder of this repository, relative to the file that names it.",
    ),
    code(
        "patch-of-nothing",
        "A patch of a `Crib` changes a resource that no base declares.",
        "Correct the kind or the name, or remove the patch.",
    ),
    code(
        "placeholder",
        "A placeholder in a command does not fit the parameters.",
        "A placeholder is `${name}` or `${name...}`, and its parameter has to be declared.",
    ),
    code(
        "policy-audit",
        "A policy that only audits would refuse the resource.",
        "Change what the rule asks about before the policy is enforced, or the rule.",
    ),
    code(
        "policy-refused",
        "A policy that is asked for admission refuses the resource: it is not run in this version.",
        "Change what the rule asks about, or the rule.",
    ),
    code("rego", "A module of Rego cannot be compiled.", "Correct the module at the place that is named."),
    code(
        "rego-function",
        "A rule calls a function that is not there or not allowed.",
        "Use another function. Policies reach no network, no clock and no environment.",
    ),
    code(
        "rego-package",
        "No module of a policy has the package that decides.",
        "Write the same words in `package` of the policy and of a module.",
    ),
    code(
        "rego-recursion",
        "A rule depends on itself.",
        "Take the rules apart so that none needs its own result.",
    ),
    code(
        "rego-rules",
        "The package of a policy has none of the rules that decide.",
        "Write at least one rule named `allow`, `deny` or `visible`.",
    ),
    code(
        "rego-too-large",
        "The rules of a policy are larger than may be asked for each call.",
        "Split the policy, or say less in it.",
    ),
    code(
        "rego-unsafe",
        "A variable of a rule gets no value.",
        "Give it one with `some … in …` before it is used, also in what is negated.",
    ),
    code(
        "second-crib",
        "A second `Crib` is declared.",
        "Move what it says into the first one: it holds for the whole repository.",
    ),
    code(
        "secret-in-clear",
        "A credential seems to be written in the clear.",
        "Write a reference, `secret: {env: NAME}`, and give the value to the daemon. What was committed has \
         to be changed: it stays in the history.",
    ),
    code(
        "shell-line",
        "A command's program has blanks in its name, as the line of a shell has.",
        "Write each word as an element of the list: no shell is involved.",
    ),
    code(
        "stray-lock",
        "A lock is there for a resource that is not declared.",
        "Remove the file, or declare the resource.",
    ),
    code(
        "submodule",
        "A path leads into a submodule, whose files are not part of the repository.",
        "Put the files themselves there, or name where they are.",
    ),
    code(
        "symlink",
        "A path leads to a symbolic link, which is never followed.",
        "Put the file itself there, or name where it is.",
    ),
    code("syntax", "The text is not YAML.", "Correct the YAML at the place that is named or just before it."),
    code("too-deep", "Lists and mappings are nested too deeply.", "Nest them less deeply."),
    code(
        "too-large",
        "A file or document is larger than is read.",
        "Split it, or name it in `.toolcribignore` if it declares nothing.",
    ),
    code(
        "unknown-anchor",
        "An alias (`*name`) stands for nothing.",
        "Put the anchor (`&name`) before it and in the same document, or text that begins with `*` in quotes.",
    ),
    code(
        "unknown-field",
        "A field is not known here.",
        "Correct its name or remove it: `toolcrib explain KIND` shows the fields.",
    ),
    code(
        "unknown-integration",
        "An integration is named that is not declared.",
        "Correct the name, or declare the `Integration`.",
    ),
    code(
        "unknown-kind",
        "A document has a kind that is not known.",
        "Correct it: `toolcrib explain` lists the kinds.",
    ),
    code(
        "unknown-runner",
        "A runner is named that is not declared.",
        "Correct the name, or declare the `Runner`.",
    ),
    code(
        "unknown-server",
        "A server is named that is not declared.",
        "Correct the name, or declare the `Server`.",
    ),
    code(
        "unknown-value",
        "A word is none of those that are known here.",
        "Use one of the words in the message.",
    ),
    code(
        "unknown-version",
        "A document has an API version that is not known.",
        "Write `apiVersion: toolcrib.dev/v1alpha1`.",
    ),
    code(
        "unpinned-image",
        "An image is named without a version, and may be another one tomorrow.",
        "Name a version, or better a digest: `name@sha256:…`.",
    ),
    code(
        "unsupported-tag",
        "A YAML tag (`!name`) is used that means nothing here.",
        "Remove it, or put text that begins with `!` in quotes.",
    ),
    code(
        "unused-parameter",
        "A parameter of a tool goes nowhere.",
        "Put `${name}` in `args` or `stdin`, or remove the parameter.",
    ),
    code(
        "warm-not-held",
        "Containers are to wait for calls, or to be used again, where there are none or where that is not safe.",
        "Run the tool in a container with a read-only root, as a user that is not root, and say how many wait (`warm`).",
    ),
    code(
        "which-runner",
        "More than one runner could run this.",
        "Name one in `spec.runner`, or in `defaults.runner` of the `Crib`.",
    ),
    code(
        "wrong-lock",
        "The name of a lock's file and the resource that it names differ.",
        "Write it anew with `toolcrib lock NAME`.",
    ),
    code(
        "wrong-runner",
        "A runner of another kind is named than is needed.",
        "Name a runner of the kind that is needed.",
    ),
    code(
        "wrong-type",
        "A value has another type than the field.",
        "The message says which type is wanted. Text that looks like something else goes in quotes.",
    ),
];
