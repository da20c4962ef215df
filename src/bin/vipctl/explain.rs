//! Why each node is or is not the one.

use vipd::api::client::Client;
use vipd::api::view as views;
use vipd::cli::{Common, StatusArgs, exit};

use super::{Failure, picture, print, view};

pub(super) async fn explain(common: &Common, group: &str, json: bool) -> Result<u8, Failure> {
    let status = Client::new(common.socket()).status().await?;
    let args = StatusArgs { group: Some(group.to_owned()), json, watch: None, all: true };
    // Also says what groups there are, where there is none of this name.
    let detail = picture(&status, common, &args)?;
    let told = views::explain(&status, group, &view(common, &args)).filter(|_| !json);
    print(told.unwrap_or(detail).as_bytes())?;
    Ok(exit::OK)
}
