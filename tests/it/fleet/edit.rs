//! Edits by chance: what is asked of the API, and what the test's memory comes to by it.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::condition::{self, TAGS};
use super::folder;
use super::herd::Herd;
use super::random::Random;
use super::world::World;

/// One edit.
pub struct Edit {
    pub method: &'static str,
    /// Below `/api/v1/`.
    pub path: String,
    pub body: Option<Json>,
    /// The statuses with which it succeeds.
    pub expects: &'static [u16],
    pub after: World,
    /// A device has other tags from now on.
    pub tags: Option<(String, BTreeSet<String>)>,
}

const WRITTEN: &[u16] = &[200, 201];
/// Adding what is there already, or taking out what is not, changes nothing and is said.
const PERHAPS: &[u16] = &[200, 201, 204, 404];

/// Something that an administrator does.
pub fn random(world: &World, herd: &Herd, random: &mut Random, number: u64) -> Edit {
    loop {
        let made = match random.below(20) {
            0..=2 => new_declaration(world, random, number),
            3 | 4 => change_declaration(world, random, number),
            5 => touch(world, random),
            6 => delete_declaration(world, random),
            7..=9 => declaration_of_group(world, random),
            10 | 11 => member(world, herd, random),
            12..=14 => change_group(world, herd, random),
            15 => new_group(world, herd, random, number),
            16 => delete_group(world, random),
            17 => activation(world, random, number),
            _ => tags(world, herd, random),
        };
        if let Some(made) = made {
            return made;
        }
    }
}

fn edit(
    method: &'static str,
    path: String,
    body: Option<Json>,
    expects: &'static [u16],
    after: World,
) -> Edit {
    Edit { method, path, body, expects, after, tags: None }
}

fn put_declaration(mut after: World, name: &str, of: super::world::Declared) -> Edit {
    let body = of.body(name);
    after.declarations.insert(name.to_owned(), of);
    edit("PUT", format!("declarations/{name}"), Some(body), WRITTEN, after)
}

fn put_group(mut after: World, name: &str, group: super::world::Group) -> Edit {
    let body = group.body();
    after.groups.insert(name.to_owned(), group);
    edit("PUT", format!("groups/{name}"), Some(body), WRITTEN, after)
}

/// Groups but for the one of everybody.
fn groups(world: &World) -> Vec<String> {
    world.groups.keys().filter(|name| *name != "default").cloned().collect()
}

fn new_declaration(world: &World, random: &mut Random, number: u64) -> Option<Edit> {
    let account = if random.once_in(4) { folder::account(world, random) } else { None };
    let of = account.unwrap_or_else(|| folder::plain(random, number));
    Some(put_declaration(world.clone(), &format!("org.example.new.{number}"), of))
}

fn activation(world: &World, random: &mut Random, number: u64) -> Option<Edit> {
    let of = folder::activation(world, random)?;
    let known = folder::of_kind(world, "activation");
    let name = if known.is_empty() || random.once_in(2) {
        format!("org.example.new.{number}")
    } else {
        random.pick(&known).clone()
    };
    let touched = world.declarations.get(&name).map_or(0, |of| of.touched);
    Some(put_declaration(world.clone(), &name, super::world::Declared { touched, ..of }))
}

fn change_declaration(world: &World, random: &mut Random, number: u64) -> Option<Edit> {
    let names: Vec<&String> = world.declarations.keys().filter(|name| *name != "org.example.base").collect();
    let name = (*random.pick(&names)).clone();
    let mut of = world.declarations[&name].clone();
    let key = ["Echo", "FullName", "VisibleName"].into_iter().find(|key| of.payload.get(*key).is_some());
    match key {
        Some(key) => of.payload[key] = format!("changed {number}").into(),
        None if of.payload.get("ring").is_some() => of.payload["ring"] = (number % 5).into(),
        None if of.payload.get("PortBase").is_some() => of.payload["PortBase"] = (1024 + number).into(),
        None => return None,
    }
    Some(put_declaration(world.clone(), &name, of))
}

fn touch(world: &World, random: &mut Random) -> Option<Edit> {
    let names: Vec<&String> = world.declarations.keys().filter(|name| *name != "org.example.base").collect();
    let name = (*random.pick(&names)).clone();
    let mut after = world.clone();
    after.declarations.get_mut(&name)?.touched += 1;
    Some(edit("POST", format!("declarations/{name}/touch"), None, WRITTEN, after))
}

/// One that is used is refused, and stays.
fn delete_declaration(world: &World, random: &mut Random) -> Option<Edit> {
    let names: Vec<&String> = world.declarations.keys().collect();
    let name = (*random.pick(&names)).clone();
    let mut after = world.clone();
    let used = world.is_used(&name);
    if !used {
        after.declarations.remove(&name);
    }
    Some(edit("DELETE", format!("declarations/{name}"), None, if used { &[409] } else { &[204] }, after))
}

/// Whatever a group has is a declaration of everybody's once in a while only.
fn declaration_of_group(world: &World, random: &mut Random) -> Option<Edit> {
    let names: Vec<&String> = world.declarations.keys().filter(|name| *name != "org.example.base").collect();
    let group = if random.once_in(40) { "default".to_owned() } else { random.pick(&groups(world)).clone() };
    let had: Vec<&String> =
        world.groups[&group].declarations.iter().filter(|name| *name != "org.example.base").collect();
    let removes = !had.is_empty() && random.once_in(2);
    let name = if removes { (*random.pick(&had)).clone() } else { (*random.pick(&names)).clone() };
    let mut after = world.clone();
    let declarations = &mut after.groups.get_mut(&group)?.declarations;
    let method = if removes { "DELETE" } else { "PUT" };
    if removes {
        declarations.remove(&name)
    } else {
        declarations.insert(name.clone())
    };
    Some(edit(method, format!("groups/{group}/declarations/{name}"), None, PERHAPS, after))
}

fn member(world: &World, herd: &Herd, random: &mut Random) -> Option<Edit> {
    let group = random.pick(&groups(world)).clone();
    let members: Vec<&String> = world.groups[&group].members.iter().collect();
    let removes = !members.is_empty() && random.once_in(2);
    let id = if removes { (*random.pick(&members)).clone() } else { herd.sample(random, 2).pop_first()? };
    let mut after = world.clone();
    let members = &mut after.groups.get_mut(&group)?.members;
    let method = if removes { "DELETE" } else { "PUT" };
    if removes {
        members.remove(&id)
    } else {
        members.insert(id.clone())
    };
    Some(edit(method, format!("groups/{group}/members/{id}"), None, PERHAPS, after))
}

fn change_group(world: &World, herd: &Herd, random: &mut Random) -> Option<Edit> {
    let names = groups(world);
    let name = random.pick(&names).clone();
    let mut group = world.groups[&name].clone();
    match random.below(4) {
        0 => group.order = i64::try_from(random.below(50)).unwrap(),
        1 => group.rule = (!random.once_in(4)).then(|| condition::rule(random, &names)),
        2 => group.predicate = (!random.once_in(4)).then(|| condition::predicate(random)),
        _ => group = folder::group(world, herd, random, &names),
    }
    Some(put_group(world.clone(), &name, group))
}

fn new_group(world: &World, herd: &Herd, random: &mut Random, number: u64) -> Option<Edit> {
    let group = folder::group(world, herd, random, &groups(world));
    Some(put_group(world.clone(), &format!("new {number}").replace(' ', "-"), group))
}

fn delete_group(world: &World, random: &mut Random) -> Option<Edit> {
    let names = groups(world);
    if names.len() < 10 {
        return None;
    }
    let name = random.pick(&names);
    let mut after = world.clone();
    after.groups.remove(name);
    Some(edit("DELETE", format!("groups/{name}"), None, &[204], after))
}

fn tags(world: &World, herd: &Herd, random: &mut Random) -> Option<Edit> {
    let device = herd.device(random.below(herd.count())).udid.clone();
    let tags: BTreeSet<String> = random.some(&TAGS, 3).into_iter().map(str::to_owned).collect();
    let body = json!({"tags": tags});
    let path = format!("enrollments/{device}");
    let edit = edit("PATCH", path, Some(body), WRITTEN, world.clone());
    Some(Edit { tags: Some((device, tags)), ..edit })
}
