//! QIDO-RS as user agent (PS3.18 §10.6): pages of matches, one match at a time in memory.

use std::collections::HashSet;

use bytes::Bytes;
use dicom_core::Tag;
use http::StatusCode;

use super::client::{Answer, Ask, Client};
use super::items::{Items, ItemsError};
use super::query::Query;
use crate::archive::{ArchiveError, FindRequest, Match, Matches};
use crate::config::Quirks;
use crate::dicom::json::read::{JsonError, read_object};
use crate::dicom::syntax::EXPLICIT_LITTLE;
use crate::dicom::uid::{TransferSyntaxUid, Uid};

/// Bytes of the JSON of one match.
const MAX_MATCH: usize = 4 << 20;
/// Bytes of all matches of one search.
const MAX_MATCHES: usize = 128 << 20;
/// Matches asked for at a time.
const PAGE: usize = 2_000;

const SERVICE: &str = "QIDO-RS";

/// Searches the server.
///
/// # Errors
/// Those of the exchange; [`ArchiveError::Status`]; [`ArchiveError::Protocol`] when the answer is
/// not DICOM JSON.
pub async fn find(
    client: &Client,
    request: &FindRequest,
    quirks: &Quirks,
) -> Result<Matches, ArchiveError> {
    let query = Query::of(request, quirks);
    let mut found = Found {
        most: request.max_matches,
        unique: query.unique,
        seen: HashSet::new(),
        bytes: 0,
        matches: Matches {
            // Until the server says otherwise.
            fuzzy_names: query.fuzzy_names,
            ..Matches::default()
        },
    };
    let mut offset = 0;
    loop {
        // One more than is kept tells whether there are more.
        let left = found.most.saturating_sub(found.matches.items.len());
        let limit = PAGE.min(left.saturating_add(1));
        let before = found.matches.items.len();
        let page = page(client, &query, limit, offset, &mut found).await?;
        offset += page.count;
        if found.matches.truncated {
            break;
        }
        let is_cut = page.count == limit
            || page.warned
            || quirks.max_results.is_some_and(|most| page.count >= most);
        if !is_cut {
            break;
        }
        if found.matches.items.len() == before {
            // Nothing new: the end, or a server that gives the same page again and again.
            found.matches.truncated = page.count > 0 || page.warned;
            break;
        }
    }
    Ok(found.matches)
}

/// Asks for one match of any study: the server answers, and knows who asks.
///
/// # Errors
/// As [`find`].
pub async fn verify(client: &Client) -> Result<(), ArchiveError> {
    let ask = Ask {
        service: SERVICE,
        path: "/studies?limit=1".into(),
        accept: "application/dicom+json",
        fields: Default::default(),
    };
    let answer = client.get(&ask).await?;
    match answer.status {
        StatusCode::OK | StatusCode::NO_CONTENT => {
            answer.finish().await;
            Ok(())
        }
        status => Err(client.status(SERVICE, status)),
    }
}

/// What came of a search so far.
struct Found {
    most: usize,
    unique: Tag,
    seen: HashSet<Uid>,
    bytes: usize,
    matches: Matches,
}

struct Page {
    /// Matches in it, known ones included.
    count: usize,
    /// The server says that there are more.
    warned: bool,
}

async fn page(
    client: &Client,
    query: &Query,
    limit: usize,
    offset: usize,
    found: &mut Found,
) -> Result<Page, ArchiveError> {
    let ask = Ask {
        service: SERVICE,
        path: query.page(limit, offset),
        accept: "application/dicom+json",
        fields: Default::default(),
    };
    let mut answer = client.get(&ask).await?;
    found.matches.fuzzy_names &= !answer.warns_of_literal_names();
    let mut page = Page {
        count: 0,
        warned: answer.warns_of_more(),
    };
    match answer.status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
        StatusCode::NO_CONTENT => return Ok(page),
        // Some servers say so when the study or series in the path is not theirs.
        StatusCode::NOT_FOUND if query.below => return Ok(page),
        status => return Err(client.status(SERVICE, status)),
    }
    check_json(&answer)?;
    let mut items = Items::new(MAX_MATCH);
    while let Some(bytes) = answer.next("search").await? {
        let taken = items.push(&bytes, |object| found.take(object, &mut page.count));
        match taken {
            Ok(()) => {}
            // The rest of the answer is not read.
            Err(Stop::Enough) => {
                found.matches.truncated = true;
                return Ok(page);
            }
            Err(Stop::Items(error)) => return Err(answer.protocol(error)),
            Err(Stop::Json(error)) => return Err(answer.protocol(error)),
        }
    }
    if items.is_done() {
        Ok(page)
    } else {
        Err(answer.closed("search"))
    }
}

/// Why a page is not read further.
enum Stop {
    Enough,
    Items(ItemsError),
    Json(JsonError),
}

impl From<ItemsError> for Stop {
    fn from(error: ItemsError) -> Self {
        Self::Items(error)
    }
}

impl Found {
    fn take(&mut self, object: &[u8], count: &mut usize) -> Result<(), Stop> {
        *count += 1;
        let data = Bytes::from(read_object(object).map_err(Stop::Json)?);
        let item = Match {
            data,
            transfer_syntax: TransferSyntaxUid::known(EXPLICIT_LITTLE),
        };
        // A page that overlaps the one before brings matches again.
        if let Some(uid) = item.uid(self.unique)
            && !self.seen.insert(uid)
        {
            return Ok(());
        }
        let bytes = self.bytes.saturating_add(item.data.len());
        if self.matches.items.len() >= self.most || bytes > MAX_MATCHES {
            return Err(Stop::Enough);
        }
        self.bytes = bytes;
        self.matches.items.push(item);
        Ok(())
    }
}

/// Servers say `application/dicom+json` or `application/json`.
fn check_json(answer: &Answer) -> Result<(), ArchiveError> {
    answer.check_encoding()?;
    match answer.media_type().as_str() {
        "application/dicom+json" | "application/json" => Ok(()),
        _ => Err(answer.protocol("the answer to a search is not DICOM JSON")),
    }
}
