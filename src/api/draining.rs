//! `vipctl move --drain`: waits until the connections that there are to a group have ended.
//!
//! Only a client asks: nothing begins at the daemon, so there is nothing to be undone if it stops.

use std::time::Duration;

use super::client::{Client, ClientError};
use super::moving::may_move;
use super::view;
use crate::io::clock;

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(500);

/// Waits until every connection to `group` that there is now has ended, for `limit` at most; those
/// that come meanwhile are not waited for, as there would always be some. At once where the group
/// is on `node` already. `tell` gets what a person wants to know of it.
///
/// # Errors
/// See [`ClientError`]; inside, why there is no use in waiting, in words.
pub async fn drain(
    client: &Client,
    (group, node): (&str, &str),
    limit: Duration,
    mut tell: impl FnMut(&str),
) -> Result<Result<(), String>, ClientError> {
    match may_move(&client.status().await?, group, node) {
        Ok(from) if from == node => return Ok(Ok(())),
        Ok(_) => {}
        Err(why) => return Ok(Err(why)),
    }
    let until = clock::now() + limit;
    let first = client.connections(group, None).await?;
    let (mut latest, mut told) = (first.clone(), None);
    loop {
        let (left, rest) = (latest.left(), until.since(clock::now()));
        if latest.node != first.node {
            return Ok(Err(format!("{} has {group} meanwhile", latest.node)));
        }
        if left == 0 || rest.is_zero() {
            tell(&view::drained(left));
            return Ok(Ok(()));
        }
        if told.replace(left) != Some(left) {
            tell(&view::draining(&latest, rest));
        }
        tokio::time::sleep(EVERY.min(rest)).await;
        latest = client.connections(group, Some(first.now)).await?;
    }
}
