//! Invitations: by anybody, by an inviter who signs what it likes, as text, and in the couriers' boxes.

use std::time::Duration;

use phantom_core::invite::courier::{CourierRecord, drop_box, open_box};
use phantom_core::invite::envelope::{Invitation, Note};
use phantom_core::invite::text;
use phantom_core::mailbox::Record;
use phantom_core::rendezvous::Day;
use phantom_core::wire::Reader;

use crate::{canonical, overlay, world};

/// A good invitation of the user of [`world::COHORT`].
pub(crate) fn invitation() -> Invitation {
    let (cohort, writers, _) = &*world::COHORT;
    let day = Day::of(world::wall());
    let records: Vec<CourierRecord> = writers
        .iter()
        .map(|writer| {
            CourierRecord::sign(
                writer,
                day,
                writer.seal(&mut world::rng(2), day, &world::bridge()),
            )
        })
        .collect();
    let note = Note::new("see you soon").expect("short");
    let until = world::wall() + Duration::from_secs(86_400);
    Invitation::sign(
        &world::identity(6),
        cohort.public.id(),
        day,
        until,
        note,
        &records,
    )
    .expect("records")
}

/// Formats.
pub fn invite(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let (cohort, writers, _) = &*world::COHORT;
    match kind % 6 {
        0 => canonical(bytes, Invitation::decode(bytes), Invitation::encode),
        1 => {
            let mut body = invitation().encode();
            body.truncate(body.len() - 64);
            overlay(&mut body, bytes);
            let signature = world::identity(6).sign(&[b"phantom-net 2026 invitation v1", &body[..]].concat());
            body.extend_from_slice(&signature);
            let decoded = Invitation::decode(&body);
            if let Ok(invitation) = &decoded {
                let _ = invitation.open(cohort, None, world::wall());
                assert_eq!(
                    text::decode_invitation(&text::encode_invitation(invitation)).as_ref(),
                    Ok(invitation)
                );
            }
            canonical(&body, decoded, Invitation::encode)
        }
        2 => {
            let typed = String::from_utf8_lossy(bytes);
            let _ = text::decode_invitation(&typed);
            match text::decode_cohort(&typed) {
                Ok(cohort) => {
                    assert_eq!(text::decode_cohort(&text::encode_cohort(&cohort)), Ok(cohort));
                    true
                }
                Err(_) => false,
            }
        }
        3 => {
            let mut r = Reader::new(bytes);
            let record = CourierRecord::read(&mut r);
            if let Ok(record) = &record {
                assert!(record.verify(&cohort.public).is_err() || record.day == Day::of(world::wall()));
            }
            let read = &bytes[..bytes.len() - r.remaining()];
            canonical(read, record, |record| {
                let mut out = Vec::new();
                record.write(&mut out);
                out
            })
        }
        4 => {
            let day = Day::of(world::wall());
            let sealed = writers[0].seal(&mut world::rng(2), day, &world::bridge());
            let record = CourierRecord::sign(&writers[0], day, sealed);
            let mut found = drop_box(&writers[0], &mut world::rng(3), &record).encode();
            overlay(&mut found, bytes);
            let Ok(found) = Record::decode(&found) else {
                return false;
            };
            open_box(&cohort.public, writers[0].slot(), day, &found).is_ok()
        }
        _ => Note::new(&String::from_utf8_lossy(bytes)).is_some(),
    }
}
