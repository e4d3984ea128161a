//! DeclarativeManagement: declarative requests inside a check-in (Apple: "DeclarativeManagementRequest").
//!
//! `Endpoint` names what the device wants, `Data` carries its status report. The answers are JSON.
//! What they say is `ddm`'s; here they become replies.

use plist::Dictionary;

use super::ids::Ids;
use super::reply::{Refusal, Reply};
use super::{Mdm, caller::Caller};
use crate::ddm;
use crate::error::Error;
use crate::plist;

pub(super) async fn handle(
    mdm: &Mdm,
    caller: &Caller,
    ids: Ids,
    message: &Dictionary,
) -> Result<Reply, Refusal> {
    let endpoint = plist::string(message, "Endpoint")
        .map_err(Error::from)?
        .ok_or_else(|| Refusal::bad("DeclarativeManagement has no Endpoint"))?;
    if endpoint == "status" {
        let report = plist::data(message, "Data")
            .map_err(Error::from)?
            .ok_or_else(|| Refusal::bad("a status report has no Data"))?
            .to_vec();
        ddm::status::check(&report)?;
        let fingerprint = caller.identity.fingerprint;
        mdm.store
            .write("status_report", move |tx| {
                super::still_speaks(tx, &fingerprint)?;
                ddm::status::store(tx, &ids.enrollment_id, &report)
            })
            .await?;
        return Ok(Reply::Empty);
    }
    let now = mdm.store.clock().now();
    mdm.store
        .peek(|conn| ddm::answer(conn, &ids.enrollment_id, endpoint, now))?
        .map(Reply::Json)
        .ok_or(Refusal::NotFound)
}
