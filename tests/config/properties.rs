//! Whatever the text: no panic, and every span lies in it.

use proptest::prelude::*;
use vipd::config::{Diagnostic, lint, parse, render};

const EXAMPLE: &str = include_str!("../../conf/vipd.toml");

fn holds(text: &str) {
    let found = match parse(text) {
        Ok((config, warnings)) => {
            let _ = config.meaning();
            let _ = config.find("hap1");
            assert!(!config.needs_lease() || config.secret.is_some());
            assert!(config.lease.is_safe());
            let _ = (config.digest(), config.parts());
            warnings
        }
        Err(errors) => {
            assert!(errors.iter().any(|d| d.severity == vipd::config::Severity::Error));
            errors
        }
    };
    let ok = |span: &std::ops::Range<usize>| text.get(span.clone()).is_some();
    let all_ok = |d: &Diagnostic| ok(&d.span) && d.related.iter().all(|(s, _)| ok(s));
    assert!(found.iter().all(all_ok));
    let _ = render(&found, "x", text, false);
    // The file may have changed since.
    let _ = render(&found, "x", text.get(..text.len() / 2).unwrap_or("é"), true);
    let vips = [std::net::Ipv4Addr::new(192, 168, 34, 85).into()];
    assert!(lint::haproxy(text, &vips).iter().all(all_ok));
}

/// A full file, nothing commented out but sentences.
fn full() -> String {
    EXAMPLE
        .lines()
        .map(|l| l.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or(l))
        .fold(String::new(), |text, l| text + l + "\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        holds(&text);
    }

    #[test]
    fn anything_like_toml(text in "([a-z-]{1,8} ?= ?(\"[a-z0-9.:/]{0,12}\"|[0-9]{1,4}|\\[|\\]|\\{|true)\n?|\\[\\[?(node|witness|group|cluster|group.proxy)\\]?\\]\n|é|\r\n|#){0,20}") {
        holds(&text);
    }

    #[test]
    fn a_damaged_example(at in 0usize..6000, len in 0usize..40, with in "\\PC{0,6}|[\\[\\]{}\"=\n#.,-]{0,4}") {
        let mut text = full();
        let from = text.floor_char_boundary(at.min(text.len()));
        let to = text.ceil_char_boundary((from + len).min(text.len()));
        text.replace_range(from..to, &with);
        holds(&text);
    }

    #[test]
    fn a_value_of_another_kind(key in 0usize..70, value in prop_oneof![
        Just("0"), Just("-1"), Just("99999999999999999999"), Just("1.5"), Just("\"\""), Just("true"),
        Just("[]"), Just("{}"), Just("[[]]"), Just("[{}]"), Just("\"x\""), Just("1979-05-27"),
        Just("[\"\"]"), Just("\"fe80::1/64\""), Just("0xff"), Just("nan"), Just("\"5\""), Just("'''\n'''"),
    ]) {
        let text = full();
        let mut keys = 0;
        let lines: Vec<String> = text.lines().map(|l| match l.split_once(" = ") {
            Some((k, _)) if !k.starts_with('#') => {
                keys += 1;
                if keys - 1 == key { format!("{k} = {value}") } else { l.to_owned() }
            }
            _ => l.to_owned(),
        }).collect();
        holds(&lines.join("\n"));
    }
}

#[test]
fn corners() {
    for text in [
        "",
        "\n",
        "\u{feff}",
        "é",
        "\"",
        "[",
        "[[",
        "a",
        "a=",
        "=",
        "\0",
        "\r",
        "x = '''",
        "a.b.c = 1",
        "[[node]]",
        "node = 1\n[[node]]",
    ] {
        holds(text);
    }
    holds(&"[".repeat(5000));
    holds(&"a = {".repeat(500));
    holds(&format!("{} = 1", "a.".repeat(500) + "a"));
    holds(&"x\n".repeat(2000));
}
