//! Names as Rust writes them.

/// "TopicIDs" and "ISRNodes" become "topic_ids" and "isr_nodes".
pub fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, &letter) in letters.iter().enumerate() {
        let after_lower = index > 0 && !letters[index - 1].is_ascii_uppercase();
        let ends_acronym = index > 0
            && letters.get(index + 1).is_some_and(char::is_ascii_lowercase)
            // The plural of an acronym does not end it.
            && !(letters.get(index + 1) == Some(&'s') && letters.get(index + 2).is_none_or(char::is_ascii_uppercase));
        if letter.is_ascii_uppercase() && (after_lower || ends_acronym) {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// A field's name; a keyword is written raw.
pub fn field(name: &str) -> String {
    let snake = snake_case(name);
    match snake.as_str() {
        "type" | "match" | "move" | "ref" | "where" | "loop" => format!("r#{snake}"),
        _ => snake,
    }
}

/// A struct's name: a few schemas begin theirs in lower case.
pub fn type_name(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acronyms_stay_together() {
        for (name, snake) in [
            ("TopicId", "topic_id"),
            ("IsrNodes", "isr_nodes"),
            ("ISRNodes", "isr_nodes"),
            ("TopicIDs", "topic_ids"),
            ("V3AndBelowTopics", "v3_and_below_topics"),
            ("members", "members"),
            ("KRaftVersionRecord", "k_raft_version_record"),
        ] {
            assert_eq!(snake_case(name), snake);
        }
        assert_eq!(field("Type"), "r#type");
    }
}
