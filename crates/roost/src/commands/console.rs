//! `roost console`: who may log in to the console.

use anyhow::{Result, bail};
use roost_console::{People, Role};
use serde_json::json;

use crate::cli::ConsoleUserCommand;
use crate::commands::user::asked;
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Adds, lists and removes people.
///
/// # Errors
/// A name or password that does not do, or a file that cannot be written.
pub(crate) fn run(settings: &Settings, command: &ConsoleUserCommand, is_json: bool) -> Result<()> {
    let mut people = People::open(&settings.console_people_file())?;
    match command {
        ConsoleUserCommand::Add { name, role, password } => {
            let Some(role) = Role::named(role) else {
                bail!("the role {role} is none of viewer, operator, administrator")
            };
            let password = match password {
                Some(password) => password.clone(),
                None => asked("Password: ")?,
            };
            people.put(name, role, &password)?;
            say_done(&format!("{name} may log in to the console as {}", role.as_str()), is_json)
        }
        ConsoleUserCommand::Rm { name } => {
            people.remove(name)?;
            say_done(&format!("{name} may not log in to the console any more"), is_json)
        }
        ConsoleUserCommand::List => list(&people, is_json),
    }
}

fn list(people: &People, is_json: bool) -> Result<()> {
    let all = people.list();
    if is_json {
        let all: Vec<_> =
            all.iter().map(|(name, role)| json!({ "name": name, "role": role.as_str() })).collect();
        return say(&serde_json::to_string_pretty(&all)?);
    }
    let mut table = table();
    table.set_header(["name", "role"]);
    for (name, role) in all {
        table.add_row([name, role.as_str().to_string()]);
    }
    say(&table.trim_fmt())
}
