//! In real time on loopback, with the production back end: what a simulated censor does to names and a bad clock does to
//! clients happens there too.

mod verdicts;

use phantom_sim::check::judge::Verdict;
use verdicts::verdicts_of_file;

#[test]
fn forged_names_and_wrong_clocks_are_played_on_sockets_and_fool_nobody() {
    let seen = verdicts_of_file("tests/on-sockets.toml", "tokio");
    for result in &seen {
        // Bytes on the way are the system's: nobody searches them.
        let wanted = if result.name.starts_with("no secret") {
            Verdict::Na
        } else {
            Verdict::Pass
        };
        assert_eq!(result.verdict, wanted, "{result:?}");
    }
    assert_eq!(seen.len(), 7);
}
