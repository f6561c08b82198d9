//! Asking for a document, piece by piece. Spec: SPEC §6.

use std::future::Future;

use bytes::Bytes;

use super::document::DocumentHash;
use super::rpc::{Assembly, DirectoryRequest, DirectoryResponse};

/// Asks over rpc for a document newer than `known`, piece by piece; `None` when there is none to be had.
pub async fn fetch<F, Fut>(known: DocumentHash, mut ask: F) -> Option<Bytes>
where
    F: FnMut(DirectoryRequest) -> Fut,
    Fut: Future<Output = Option<DirectoryResponse>>,
{
    let mut assembly = Assembly::document();
    loop {
        let hash = assembly.hash().map(DocumentHash);
        let request = DirectoryRequest::GetDocument {
            hash,
            known,
            offset: assembly.offset(),
        };
        let DirectoryResponse::Piece(piece) = ask(request).await? else {
            return None;
        };
        match assembly.add(&piece) {
            Ok(Some(whole)) => return Some(whole),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "a document did not arrive whole");
                return None;
            }
        }
    }
}
