//! corten: a low-level OCI container runtime.
//!
//! This page is the architecture. Read it first; each module says the rest about itself.
//!
//! # The sentence
//!
//! **The parent decides, the child performs.** `config.json` is compiled, without side effects, into a
//! [plan]: a flat list of typed steps. A tiny interpreter without the standard library,
//! [`corten_init`], performs the list between `clone3` and `execve`. Nothing is decided there, nothing
//! is allocated there, and a failure is a step number, a call and an errno, which the parent words with
//! the place in `config.json` it came from.
//!
//! # Seven concepts
//!
//! | concept | where | what it is |
//! |---|---|---|
//! | **Bundle** | [`bundle::Bundle`] | a directory with `config.json` and a root file system |
//! | **Spec** | [`spec::Spec`] | what `config.json` says, checked: every violated rule at once |
//! | **Host** | [`host::Host`] | facts about the machine and about ourselves, read once |
//! | **Plan** | [`plan::Plan`] | what will be done, as steps; `corten plan` prints it |
//! | **Init** | [`corten_init::run`] | the interpreter that performs the steps and becomes the container's program |
//! | **Cgroup** | [`cgroup::Cgroup`] | where the container's processes are counted, limited and found |
//! | **Container** | [`container`] | its life: state on disk, and what each command does to it |
//!
//! # How a container comes to be
//!
//! ```text
//! bundle/config.json ── Spec::parse ──> Spec ── spec::problems ──> every violated rule, with its JSON pointer
//!                                        │
//!         Host::read (kernel features, cgroup layout, LSMs, who we are)  +  CreateOptions (command line)
//!                                        v
//!                            plan::create / plan::exec                    pure: same input, same plan, no I/O
//!                                        v
//! Plan { opens, kinds, cgroup, steps[(Op, Origin)], text, argv, envp, filter, hooks }  <- `corten plan BUNDLE`
//!          │                  │                         │
//!    Launch::open (fds)   Cgroup::create          Program (a borrowed view of the plan)
//!          └──────────────────┴──> clone3(kinds, into the cgroup) ──> corten_init::run(program)
//!                                          │  ^                              │
//!      container::serve <── Sync(Cgroup | IdMaps | TimeOffsets | Network | Hooks | Ready), Terminal, CopyUp, Listener
//!      (id maps, time offsets, network devices, hooks, copies, resource limits; `go` after each)
//!          │
//!    state.json, pid file, exit 0                                init waits on the start socket
//!                                                                      │
//! `start`: connects -> init runs the startContainer hooks -> execve. End of file: it runs.
//!                                                       A fault: exactly why it does not.
//! `kill`, `delete`, `state`, `list`, `pause`, `update`, `ps`, `events`: state.json + pidfd + Cgroup; never
//! the plan
//! `exec`: plan::exec = join, then the same steps for the process, by the same interpreter
//! ```
//!
//! There is no "intermediate process" in the code: where joining a pid, user or time namespace makes
//! one necessary, the plan holds an [`Op::Fork`](corten_init::program::Op::Fork) step: "continue in a
//! sibling of this process, which exits".
//!
//! What does not fit a flat program has a place too. Id maps, time offsets, network devices and the
//! hooks that run on the host are done by the parent, when the init asks for it
//! ([`Sync`](corten_init::program::Sync)). Copying into a tmpfs and createContainer hooks run in a
//! process of their own that joined the container's namespaces ([`container::inside`]). A progress word
//! in a page shared with the init is stored before each step, so that even a death by SIGKILL or SIGSYS
//! is reported as "killed by signal 31 while trying to ...".
//!
//! `start` tells the truth: the init listens on a socket in the state directory and keeps it, close on
//! exec, until `execve`. Whoever connects sees the end of the connection exactly when the program runs.
//!
//! # The workspace
//!
//! ```text
//! src/              this crate: the library and the `corten` binary
//!   cli/            one file per command: parses words, calls one function of container, prints
//!   spec/           the configuration and its rules: Problem { pointer, message }
//!   plan/           Spec + Host + options -> Plan. Pure
//!   seccomp/        a seccomp profile -> classic BPF. Pure
//!   cgroup/         v1 and v2 are pure lowerings (Resources -> Setting); one writer; systemd
//!   container/      the life of one container: store state launch serve start kill delete exec hooks ...
//!   bundle host seal netlink rdt log error clock
//! init/             package `corten-init`: no_std, no alloc, depends on libc alone
//!                   program (the vocabulary shared with plan/), run, wire, sys, and what the steps do
//! spec-examples/    one corpus, five uses: documentation, golden plans, test bundles, fuzz seeds, benchmarks
//! integration/      drives a runtime binary as root with real bundles on the real kernel
//! fuzz/             fuzz targets
//! hack/             run, test and measure: small scripts
//! docs/             deviations from the peers, kernel features, engines
//! ```
//!
//! # Who may import whom
//!
//! | room | may import | must not |
//! |---|---|---|
//! | `init` | core, libc | std, alloc, anything else |
//! | [`spec`] | oci-spec, serde, [`error`](mod@error) | the host, I/O beyond parsing bytes |
//! | [`host`] | error, nix, procfs, `init::sys`, the cgroup layout | spec, plan |
//! | [`seccomp`] | spec's types, seccompiler's types, error | I/O |
//! | [`plan`] | spec, host's types, seccomp, cgroup's values, `init::program` | I/O: `std::fs`, `std::env`, `std::process` |
//! | [`cgroup`] | spec's types, error, `init::sys` | plan, container |
//! | [`container`] | all above | cli |
//! | [`cli`] | container, plan (to print it), spec, log | `init::sys`, cgroup |
//!
//! # Invariants
//!
//! 1. Planning performs no I/O.
//! 2. After `clone3` no code outside `init` runs in the child.
//! 3. The init never decides: an operation says what to do, never whether.
//! 4. Every step carries the JSON pointer it came from.
//! 5. Only [`container::store`] writes below the state root.
//! 6. A container's status is computed from facts (pid, start time, boot id, start socket, freezer),
//!    never stored as truth.
//! 7. Every descriptor is close-on-exec from birth.
//! 8. The runtime is single-threaded until `clone3`.
//! 9. Nothing inside the root file system is resolved by path but below its descriptor
//!    (`openat2` with `RESOLVE_IN_ROOT`, or a walk that does the same), and nothing is resolved twice:
//!    mounts go by descriptor, writes below /proc through a procfs of our own.
//! 10. The last line on standard error, and in the log, is the whole error.
//! 11. Every wait watches the child too, or is bounded: the runtime never hangs.
//! 12. State is written before each side effect, so that `delete --force` cleans up after a SIGKILL at
//!     any instant.
//! 13. `unsafe` stands in `init/src/sys.rs` alone, each block with its reason.
//!
//! # Errors
//!
//! One complete line: `cannot VERB OBJECT (config.json#POINTER): CALL: CAUSE`. See [`error`](mod@error).
//!
//! # Where to start reading
//!
//! [`container::create()`] is the whole way of a container in one file. [`plan::create()`] is the list of
//! what is done in its order. [`corten_init::program::Op`] is everything a step can be.

pub mod bundle;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod container;
pub mod error;
pub mod host;
pub mod log;
pub mod netlink;
pub mod plan;
pub mod rdt;
pub mod seal;
pub mod seccomp;
pub mod spec;
