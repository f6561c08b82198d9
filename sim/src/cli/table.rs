//! The verdict table.

use comfy_table::{ContentArrangement, Table};

use crate::check::claims::ClaimResult;
use crate::check::judge::{InvariantResult, Verdict};

/// A table of invariants and claims, for people.
pub fn verdicts(invariants: &[InvariantResult], claims: &[ClaimResult]) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(140);
    }
    table.set_header(["", "what must hold", "kind", "observed", "n", "first violation"]);
    for result in invariants {
        let verdict = match result.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Na => "n/a",
        };
        let when = result
            .first_violation_seconds
            .map_or(String::new(), |at| format!("{at:.1} s"));
        let name = if result.verdict == Verdict::Fail {
            format!("{}\n{}", result.name, result.wanted)
        } else {
            result.name.clone()
        };
        let n = result.samples.to_string();
        table.add_row([verdict, &name, &result.kind, &result.observed, &n, &when]);
    }
    for claim in claims {
        let n = claim.n.to_string();
        table.add_row([
            &claim.verdict.to_uppercase(),
            &claim.name,
            "claim",
            &claim.observed,
            &n,
            "",
        ]);
    }
    let mut text = format!("{table}\n");
    if claims
        .iter()
        .any(|claim| claim.verdict.eq_ignore_ascii_case("undecided"))
    {
        text.push_str("UNDECIDED is no failure: a claim speaks of many seeds, and n of them decide it (check --seeds N)\n");
    }
    text
}
