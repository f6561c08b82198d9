//! Becoming contacts, and helping each other in.

use std::io::Read;
use std::time::Duration;

use phantom_client::{Command, ContactId, Safe};
use phantom_core::invite::{decode_cohort, decode_invitation, encode_cohort, encode_invitation};
use phantom_core::message::contact::{self, Contact, Expected, Invitation};
use phantom_core::message::poll::Schedule;
use phantom_core::message::text;
use phantom_core::runtime::{Clock, Entropy};
use phantom_core::units::WallTime;
use phantom_core::wire::{DecodeError, Reader, Writer};
use zeroize::Zeroizing;

use super::home::Home;
use super::session::Session;
use super::{Failure, failed, usage};

const OFFERS: &str = "offers.vault";
/// Offers that wait for an answer.
const OFFERS_MAX: usize = 64;
/// SPEC §10.
const OFFER_LIFE: Duration = Duration::from_secs(14 * 86_400);
/// Longest text that is read from standard input.
const TEXT_MAX: u64 = 128 * 1024;
/// Mean pause before the network is asked again for what no bridge has left yet.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// Second byte of the texts of SPEC §5.1.
const KIND_OFFER: u8 = 1;
const KIND_ANSWER: u8 = 2;
const KIND_CONFIRMATION: u8 = 3;

/// An offer that was shown and not answered yet.
struct Offer {
    name: ContactId,
    made: WallTime,
    secret: Zeroizing<[u8; 128]>,
}

/// An offer that was taken up, until its maker confirms.
struct Awaited {
    name: ContactId,
    since: WallTime,
    expected: Expected,
}

/// What accepting a text came to.
pub(crate) enum Accepted {
    /// An offer: there is a contact now; the answer goes back to whoever offered.
    Offer { answer: String, short_string: String },
    /// The answer to an offer of ours: there is a contact now.
    Answer {
        name: ContactId,
        short_string: String,
        confirmation: String,
    },
    /// The confirmation of a contact whose offer was taken up: it has the same keys.
    Confirmed { name: ContactId },
    /// A friend's invitation with so many bridges.
    Invitation { bridges: usize },
}

pub(crate) fn contact_id(name: &str) -> Result<ContactId, Failure> {
    ContactId::new(name).ok_or_else(|| {
        usage(format!(
            "{name:?} is no name: 1 to {} bytes without control characters",
            ContactId::LEN_MAX
        ))
    })
}

/// The text itself, or what standard input says if it is "-".
pub(crate) fn read_text(text: &str) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut read = String::new();
    let input = std::io::stdin().lock().take(TEXT_MAX).read_to_string(&mut read);
    input.map_err(|error| usage(format!("reading standard input: {error}")))?;
    Ok(read.trim_end_matches(['\n', '\r']).to_owned())
}

/// `invite NAME`.
pub(crate) async fn offer(home: &Home, name: &str) -> Result<(), Failure> {
    let text = make_offer(home, name).await?;
    println!("{text}");
    eprintln!("Show this to one person only, by a way that nobody else reads. They run:");
    eprintln!("  phantom accept TEXT --name YOUR-NAME");
    eprintln!("and give you back an answer; accept it in the same way.");
    Ok(())
}

/// A text for exactly one person.
pub(crate) async fn make_offer(home: &Home, name: &str) -> Result<String, Failure> {
    let name = contact_id(name)?;
    let (mut safe, mut pending) = pending(home).await?;
    let offers = &mut pending.offers;
    offers.retain(|offer| offer.name != name);
    if offers.len() >= OFFERS_MAX {
        return Err(usage(format!(
            "{OFFERS_MAX} offers wait for an answer: the oldest ends after 14 days"
        )));
    }
    let invitation = Invitation::new(&mut home.rt.rng("contact offer"));
    offers.push(Offer {
        name,
        made: home.rt.wall(),
        secret: invitation.to_bytes(),
    });
    save(&mut safe, &pending).await?;
    Ok(invitation.to_text())
}

/// `accept TEXT`.
pub(crate) async fn accept(
    home: &Home,
    session: &mut Session,
    text: &str,
    name: Option<&str>,
) -> Result<(), Failure> {
    let compare = |short: &str| {
        eprintln!(
            "Compare by voice: both of you must see {short}. If you do not, somebody stood between you."
        );
    };
    match take_up(home, session, &read_text(text)?, name).await? {
        Accepted::Offer { answer, short_string } => {
            println!("{answer}");
            eprintln!(
                "Give this answer back to whoever made the offer, and accept the confirmation you get."
            );
            compare(&short_string);
        }
        Accepted::Answer {
            name,
            short_string,
            confirmation,
        } => {
            println!("{confirmation}");
            eprintln!(
                "{} is your contact now. Give this confirmation back; it is accepted in the same way.",
                name.as_str()
            );
            compare(&short_string);
        }
        Accepted::Confirmed { name } => eprintln!("Confirmed: {} has the same keys.", name.as_str()),
        Accepted::Invitation { bridges } => eprintln!("The invitation names {bridges} ways in."),
    }
    Ok(())
}

/// Finds out what the text is, and does it.
pub(crate) async fn take_up(
    home: &Home,
    session: &mut Session,
    given: &str,
    name: Option<&str>,
) -> Result<Accepted, Failure> {
    if given
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("phantominvite")
    {
        return take_invitation(session, given).await;
    }
    let bytes = text::decode(given).map_err(|error| usage(format!("the text cannot be read: {error}")))?;
    match bytes.get(1) {
        Some(&KIND_OFFER) => {
            let name =
                name.ok_or_else(|| usage("this is an offer: say what to call the contact with --name NAME"))?;
            let id = contact_id(name)?;
            let mut rng = home.rt.rng("contact answer");
            let (contact, answer) =
                contact::accept(given, &mut rng).map_err(|error| usage(error.to_string()))?;
            let (short_string, expected) = (contact.short_string.clone(), contact.expected());
            session.add(id.clone(), contact).await?;
            let (mut safe, mut pending) = pending(home).await?;
            pending.awaited.retain(|awaited| awaited.name != id);
            if pending.awaited.len() >= OFFERS_MAX {
                pending.awaited.remove(0);
            }
            pending.awaited.push(Awaited {
                name: id,
                since: home.rt.wall(),
                expected,
            });
            save(&mut safe, &pending).await?;
            Ok(Accepted::Offer { answer, short_string })
        }
        Some(&KIND_ANSWER) => take_answer(home, session, given).await,
        Some(&KIND_CONFIRMATION) => take_confirmation(home, given).await,
        _ => Err(usage("this is no text of this version")),
    }
}

async fn take_invitation(session: &mut Session, given: &str) -> Result<Accepted, Failure> {
    let invitation = decode_invitation(given).map_err(|error| usage(error.to_string()))?;
    let invitation = invitation.encode().into();
    let bridges = session
        .ask(|reply| Command::AcceptInvitation { invitation, reply })
        .await?;
    let bridges = bridges.map_err(|error| failed(error.to_string()))?;
    if bridges == 0 {
        return Err(failed(
            "no record of this invitation opens: they are for another day, or were changed on the way",
        ));
    }
    Ok(Accepted::Invitation { bridges })
}

async fn take_confirmation(home: &Home, given: &str) -> Result<Accepted, Failure> {
    let (mut safe, mut pending) = pending(home).await?;
    let proven = |awaited: &Awaited| awaited.expected.check(given).is_ok();
    let Some(index) = pending.awaited.iter().position(proven) else {
        return Err(usage(
            "this confirms no contact that waits for it: it was used before, or somebody stands between you",
        ));
    };
    let name = pending.awaited.remove(index).name;
    save(&mut safe, &pending).await?;
    Ok(Accepted::Confirmed { name })
}

async fn take_answer(home: &Home, session: &mut Session, given: &str) -> Result<Accepted, Failure> {
    let (mut safe, mut pending) = pending(home).await?;
    let mut last = None;
    let mut found: Option<(usize, Contact, String)> = None;
    for (index, offer) in pending.offers.iter().enumerate() {
        let finished = Invitation::from_bytes(&offer.secret).and_then(|invitation| invitation.finish(given));
        match finished {
            Ok((contact, confirmation)) => found = Some((index, contact, confirmation)),
            Err(error) => last = Some(error),
        }
    }
    let Some((index, contact, confirmation)) = found else {
        let why = last.map_or_else(
            || "there is none that waits".to_owned(),
            |error| error.to_string(),
        );
        return Err(usage(format!("this answers no offer of yours: {why}")));
    };
    let name = pending.offers[index].name.clone();
    let short_string = contact.short_string.clone();
    // The contact first: an offer that is kept too long does no harm, one that is dropped too early does.
    session.add(name.clone(), contact).await?;
    pending.offers.remove(index);
    save(&mut safe, &pending).await?;
    Ok(Accepted::Answer {
        name,
        short_string,
        confirmation,
    })
}

/// `invite --my-cohort`.
pub(crate) async fn print_cohort(home: &Home) -> Result<(), Failure> {
    println!("{}", encode_cohort(&home.bundle().await?.cohort.public));
    eprintln!("Give this to a friend who is connected; they run: phantom invite --for-cohort TEXT");
    Ok(())
}

/// `invite --for-cohort TEXT`.
pub(crate) async fn invite(session: &mut Session, cohort: &str, within: Duration) -> Result<(), Failure> {
    println!("{}", fetch(session, cohort, within).await?);
    eprintln!("Give this to your friend, who runs: phantom accept TEXT");
    Ok(())
}

async fn fetch(session: &mut Session, cohort: &str, within: Duration) -> Result<String, Failure> {
    let cohort = decode_cohort(&read_text(cohort)?).map_err(|error| usage(error.to_string()))?;
    let rt = session.rt.clone();
    let deadline = rt.now() + within;
    let mut gaps = Schedule::new(ASK_AGAIN, rt.rng("asking for an invitation"));
    loop {
        let cohort = Box::new(cohort.clone());
        let fetched = session
            .ask(|reply| Command::FetchInvitation { cohort, reply })
            .await?;
        if let Some(invitation) = fetched {
            return Ok(encode_invitation(&invitation));
        }
        if rt.now() >= deadline {
            let status = session.status().await?;
            return Err(match status.entry {
                Some(_) => failed("no bridge has left a record for this cohort yet: try again in an hour"),
                None => session.no_way_in().await,
            });
        }
        rt.sleep_until((rt.now() + gaps.next_gap()).min(deadline)).await;
    }
}

/// Exchanges that are not over.
#[derive(Default)]
struct Pending {
    offers: Vec<Offer>,
    awaited: Vec<Awaited>,
}

async fn pending(
    home: &Home,
) -> Result<(Safe<phantom_core::runtime::tokio::TokioRuntime>, Pending), Failure> {
    let secret = home.secret()?;
    let (safe, content) = Safe::open(&home.rt, OFFERS, &secret)
        .await
        .map_err(|e| usage(e.to_string()))?;
    let mut pending = match content {
        Some(content) => decode(&content).map_err(|error| failed(format!("the file {OFFERS}: {error}")))?,
        None => Pending::default(),
    };
    let now = home.rt.wall();
    pending.offers.retain(|offer| now < offer.made + OFFER_LIFE);
    pending.awaited.retain(|awaited| now < awaited.since + OFFER_LIFE);
    Ok((safe, pending))
}

async fn save(
    safe: &mut Safe<phantom_core::runtime::tokio::TokioRuntime>,
    pending: &Pending,
) -> Result<(), Failure> {
    let mut out = Zeroizing::new(Vec::with_capacity(4_096));
    out.put_u16(pending.offers.len() as u16);
    for offer in &pending.offers {
        out.put_bytes(offer.name.as_str().as_bytes());
        out.put_u64(offer.made.as_unix_nanos());
        out.put(&*offer.secret);
    }
    out.put_u16(pending.awaited.len() as u16);
    for awaited in &pending.awaited {
        out.put_bytes(awaited.name.as_str().as_bytes());
        out.put_u64(awaited.since.as_unix_nanos());
        out.put(awaited.expected.as_bytes());
    }
    safe.save(&out).await.map_err(|error| failed(error.to_string()))
}

fn decode(bytes: &[u8]) -> Result<Pending, DecodeError> {
    let mut r = Reader::new(bytes);
    let mut pending = Pending::default();
    for _ in 0..r.count("offers", OFFERS_MAX)? {
        pending.offers.push(Offer {
            name: name(&mut r)?,
            made: WallTime::from_unix_nanos(r.u64()?),
            secret: Zeroizing::new(r.array()?),
        });
    }
    for _ in 0..r.count("awaited confirmations", OFFERS_MAX)? {
        pending.awaited.push(Awaited {
            name: name(&mut r)?,
            since: WallTime::from_unix_nanos(r.u64()?),
            expected: Expected::from_bytes(r.array()?),
        });
    }
    r.finish()?;
    Ok(pending)
}

fn name(r: &mut Reader<'_>) -> Result<ContactId, DecodeError> {
    let name = r.bytes("name of a contact", ContactId::LEN_MAX)?;
    let name = std::str::from_utf8(name).ok().and_then(ContactId::new);
    name.ok_or(DecodeError::BadValue {
        field: "name of a contact",
        got: 0,
    })
}
