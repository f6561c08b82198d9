//! Code cites docs/SPEC.md by number: `SPEC §2.7`, `SPEC §3.1, §4.4`, or `SPEC §9.1` for a numbered rule of a section. Each
//! number that any file of the workspace cites is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What may be cited: every heading `## n` and `### n.m`, and every numbered rule below one, `n.k` or `n.m.k`.
fn sections(spec: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut under = None;
    for line in spec.lines() {
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() {
            let number = heading.split_whitespace().next().unwrap_or_default();
            under = is_number(number).then(|| number.to_owned());
            all.extend(under.clone());
        } else if let (Some(section), Some((rule, _))) = (&under, line.split_once(". "))
            && is_number(rule)
        {
            all.insert(format!("{section}.{rule}"));
        }
    }
    all
}

fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').all(digits)
}

/// The numbers that a source file cites. After the first, more may follow: `§3.1 (hop keys), §3.3`, also over the end of
/// a line of a comment.
fn cited(source: &str) -> Vec<String> {
    let lines = source
        .lines()
        .map(|line| line.trim_start().trim_start_matches(['/', '!']).trim());
    let text = lines.collect::<Vec<_>>().join(" ");
    let mut all = Vec::new();
    for citation in text.split("SPEC §").skip(1) {
        let mut rest = Some(citation);
        while let Some(here) = rest {
            let end = here
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(here.len());
            let number = here[..end].trim_end_matches('.');
            // `SPEC §n` in prose stands for any number.
            if is_number(number) {
                all.push(number.to_owned());
            }
            let mut after = &here[end..];
            if let Some(remark) = after.strip_prefix(" (") {
                after = remark.split_once(')').map_or("", |(_, after)| after);
            }
            rest = [", §", " and §"].iter().find_map(|more| after.strip_prefix(more));
        }
    }
    all
}

/// What `source` cites and `spec` does not have.
fn dangling(source: &str, spec: &BTreeSet<String>) -> Vec<String> {
    cited(source)
        .into_iter()
        .filter(|number| !spec.contains(number))
        .collect()
}

#[test]
fn every_cited_section_of_the_specification_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let spec = sections(&fs::read_to_string(workspace.join("docs/SPEC.md")).expect("the specification"));
    let (mut files, mut citations, mut wrong) = (0, 0, Vec::new());
    let mut ahead: Vec<PathBuf> = ["core", "node", "client", "sim", "reports", "deploy"]
        .map(|part| workspace.join(part))
        .to_vec();
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path)
                .expect("a directory")
                .map(|entry| entry.expect("an entry").path());
            // Crates outside the workspace may be built in place.
            ahead.extend(entries.filter(|path| !path.ends_with("target")));
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("core/tests/spec.rs") {
            let source = fs::read_to_string(&path).expect("text");
            files += 1;
            citations += cited(&source).len();
            let missing = dangling(&source, &spec);
            wrong.extend(
                missing
                    .into_iter()
                    .map(|number| format!("{}: SPEC §{number}", path.display())),
            );
        }
    }
    assert!(
        files > 200 && citations > 100,
        "{citations} citations in {files} files"
    );
    assert!(wrong.is_empty(), "not in docs/SPEC.md:\n{}", wrong.join("\n"));
}

#[test]
fn a_citation_of_what_is_not_there_is_found() {
    let spec = sections(
        "# Title\n## 1 One\n1. A rule.\n### 1.2 Sub\n12. Twelfth, of\n   3.4 units.\n## 10 Ten\n| 7. x |\n",
    );
    let have = ["1", "1.1", "1.2", "1.2.12", "10"].map(str::to_owned);
    assert_eq!(spec, BTreeSet::from(have));
    assert_eq!(
        dangling("//! Spec: SPEC §1.2, §10; RFC 9000 §8.1.", &spec),
        Vec::<String>::new()
    );
    assert_eq!(dangling("/// SPEC §1.3.\n/// More.", &spec), ["1.3"]);
    assert_eq!(
        dangling("//! SPEC §1 (why), §2.\nSPEC §1.2.13", &spec),
        ["2", "1.2.13"]
    );
    assert_eq!(dangling("//! SPEC §1,\n    //! §4 and §5.", &spec), ["4", "5"]);
    assert_eq!(dangling("cites them as `SPEC §n`", &spec), Vec::<String>::new());
}
