use super::*;
use crate::container::UserOption;

fn words_of(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn global() -> Global {
    Global { root: "/root".into(), systemd_cgroup: false, rootless: Rootless::False, debug: true }
}

fn failure(line: &str) -> String {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let command = COMMANDS.iter().find(|command| command.name == name).unwrap();
    match command.run(&global(), words_of(rest).into_iter(), false, "corten") {
        Err(Exit::Fail(_, error)) => error.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn exec_takes_runcs_flags() {
    let line = "-t -u 1:2 -g 5 --additional-gids=6 -e A=1 --env B=2 -c CAP_KILL -cap CAP_CHOWN --cgroup a:b \
                --cgroup c:d --no-new-privs --preserve-fds 3 id --ignore-paused -d --pid-file x sh -c --tty";
    let options = exec::options(&global(), &exec::COMMAND.matches(words_of(line)).unwrap()).unwrap();
    assert_eq!((options.root.as_path(), options.id.as_str()), (Path::new("/root"), "id"));
    assert_eq!(options.args, ["sh", "-c", "--tty"]);
    assert_eq!(options.user, Some(UserOption { uid: 1, gid: Some(2) }));
    assert_eq!(options.additional_gids, [5, 6]);
    assert_eq!(options.env, ["A=1", "B=2"]);
    assert_eq!(options.caps, ["CAP_KILL", "CAP_CHOWN"]);
    assert_eq!(options.cgroups, ["a:b", "c:d"]);
    assert_eq!((options.preserve_fds, options.pid_file), (3, Some("x".into())));
    assert!(options.tty && options.detach && options.ignore_paused && options.debug);
    assert_eq!(options.no_new_privs, Some(true));
    let options = exec::options(&global(), &exec::COMMAND.matches(words_of("id sh")).unwrap()).unwrap();
    assert!(
        options.no_new_privs.is_none() && options.user.is_none() && !options.tty && options.env.is_empty()
    );
}

#[test]
fn run_takes_an_id_or_a_directory() {
    let options =
        |line| run::of_id_or_bundle(&global(), &run::COMMAND.matches(words_of(line)).unwrap()).unwrap();
    let named =
        options("name -b /b --no-pivot --no-new-keyring --pid-file=p --console-socket s -pidfd-socket f");
    assert_eq!((named.id.as_str(), named.bundle.as_path()), ("name", Path::new("/b")));
    assert!(named.no_pivot && named.no_new_keyring && named.rootless == Rootless::False);
    assert_eq!(named.pid_file, Some("p".into()));
    assert_eq!((named.console_socket, named.pidfd_socket), (Some("s".into()), Some("f".into())));
    assert_eq!(options("name").bundle, Path::new("."));
    for line in [".", "..", "/tmp", "tmp/", "./x"] {
        let unnamed = options(line);
        assert_eq!(unnamed.bundle, Path::new(line));
        store::check_id(&unnamed.id).unwrap();
    }
}

#[test]
fn wrong_words_are_refused_in_one_sentence() {
    for (line, text) in [
        ("state", "corten: \"state\" requires exactly 1 argument(s)"),
        ("start a b", "corten: \"start\" requires exactly 1 argument(s)"),
        ("exec", "corten: \"exec\" requires a minimum of 1 argument(s)"),
        ("kill", "corten: \"kill\" requires a minimum of 1 argument(s)"),
        ("kill a 1 2", "corten: \"kill\" requires a maximum of 2 argument(s)"),
        ("kill a FOO", "unknown signal \"FOO\""),
        ("exec a", "exec failed: cannot execute in container a: process args cannot be empty"),
        ("exec -p f a b", "exec failed: cannot execute in container a: a command and --process"),
        ("run -b x ./y", "corten run failed: cannot run ./y with --bundle"),
        ("create --foo a", "flag provided but not defined: --foo"),
        ("create -bundel b a", "flag provided but not defined: --bundel (did you mean --bundle?)"),
        ("create --preserve-fds x a", "invalid value \"x\" for flag --preserve-fds: "),
        ("create a --bundle", "flag needs an argument: --bundle"),
        ("exec -u -1 a b", "invalid value \"-1\" for flag --user: "),
        ("delete --force=maybe a", "invalid boolean value \"maybe\" for flag --force"),
    ] {
        let error = failure(line);
        assert!(error.starts_with(text) && !error.contains('\n'), "{line}: {error}");
    }
}

#[test]
fn help_starts_as_scripts_expect() {
    for command in COMMANDS {
        match command.run(&global(), words_of("-h").into_iter(), false, "corten") {
            Err(Exit::Print(text)) => {
                assert!(text.starts_with(&format!("NAME:\n   corten {} - ", command.name)), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        help::global(&command("corten", global_flags()), COMMANDS).starts_with("NAME:\n   corten - Open")
    );
    let version = help::version();
    let lines: Vec<&str> = version.lines().collect();
    assert!(lines[0].starts_with("corten version ") && lines[1].starts_with("commit: "));
    assert_eq!(lines[2], "spec: 1.3.0");
}

#[test]
fn every_definition_is_sound() {
    command("corten", global_flags()).debug_assert();
    for subcommand in COMMANDS {
        command(subcommand.name, (subcommand.flags)()).arg(positional()).debug_assert();
    }
}
