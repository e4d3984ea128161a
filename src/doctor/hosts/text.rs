//! A survey as a terminal shows it.

use super::{Kind, Status, Survey};

/// The table, by category, in lines of some 100 characters.
pub fn table(survey: &Survey) -> String {
    let mut text = String::new();
    let mut category = "";
    for row in &survey.items {
        if row.host.category != category {
            category = &row.host.category;
            let mut letters = category.chars();
            let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
            text.push_str(&format!("\n{first}{}\n", letters.as_str()));
        }
        let status = match row.status {
            Status::Open => "open",
            Status::Intercepted => "INTERCEPTED",
            Status::Refused => "REFUSED",
            Status::Blocked => "BLOCKED",
            Status::NoName => "NO NAME",
            Status::NoRoute => "NO ROUTE",
        };
        let protocol = if row.host.kind == Kind::Ntp { "udp" } else { "tcp" };
        let address = row.address.map(|address| address.to_string()).unwrap_or_default();
        let line = format!(
            "  {status:<11} {:<38} {protocol} {:<5} {:<9} {:>5} ms  {address} {}",
            row.host.host,
            row.host.port,
            row.host.platforms.split(',').next().unwrap_or_default(),
            row.latency_ms,
            row.reverse_dns.as_deref().unwrap_or_default()
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What does not work from here, and what to ask for, in sentences.
pub fn advice(survey: &Survey) -> String {
    let mut text = String::new();
    for found in survey.findings() {
        for part in [&found.seen, &found.means, &found.remedy] {
            if !part.is_empty() {
                text.push_str(part);
                text.push('\n');
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}
