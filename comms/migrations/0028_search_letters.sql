-- Search: letters are found with and without their accents, and every part of a number, an address or a reference.

-- What is compared: small letters without accents, whatever way they were typed (composed, decomposed, full width).
-- Marks that are above, below or within letters go, and so does what cannot be seen. Every character is folded by
-- itself, so that a place in the folded text is a place in the text (comms/messages/folding.py counts likewise).
create function app.folded(written text) returns text language sql immutable parallel safe strict
    return case when octet_length(written) = length(written) then lower(written collate pg_c_utf8)
        else regexp_replace(lower(normalize(
                translate(written, 'øØđĐðÐłŁħĦıŧŦ', 'oOdDdDlLhHitT'), nfkd) collate pg_c_utf8),
            '[\u00AD\u0300-\u036F\u0483-\u0489\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A'
            '\u064B-\u065F\u0670\u1AB0-\u1AFF\u1DC0-\u1DFF\u200B-\u200F\u202A-\u202E\u2060-\u2064\u2066-\u206F'
            '\u20D0-\u20FF\uFE00-\uFE0F\uFE20-\uFE2F\uFEFF]', '', 'g') end;
-- Letters and digits alone: everything else is a space, so that AB-1234/56, a path and an address are their parts.
create function app.search_letters(written text) returns text language sql immutable parallel safe strict
    return regexp_replace(app.folded(written) collate pg_c_utf8, '[^[:alnum:]]', ' ', 'g');
create function app.search_words(written text) returns tsvector language sql immutable parallel safe
    return to_tsvector('pg_catalog.english'::regconfig, left(app.search_letters(coalesce(written, '')), 200000));

-- What is asked, with the same letters: "quoted", or, -not are understood, and a word with signs in it (a number, an
-- address) is looked for as its parts in their order.
create function app.search_query(asked text) returns tsquery language sql immutable parallel safe strict
    return (
        select websearch_to_tsquery('pg_catalog.english'::regconfig, coalesce(string_agg(
            case when p.words = '' then null when p.quoted or p.words like '% %' then p.sign || '"' || p.words || '"'
                else p.sign || p.words end, ' ' order by p.place), ''))
        from (
            select m.found[1] as sign, m.found[2] is not null as quoted, m.place,
                btrim(app.search_letters(coalesce(m.found[2], m.found[3]))) as words
            from regexp_matches(translate(asked, '“”„‟«»＂', '"""""""'), '(-?)(?:"([^"]*)"?|([^\s"]+))', 'g')
                with ordinality m(found, place)) p);
create or replace function app.any_word(asked text) returns tsquery language sql immutable
    return case when asked ~* '["“”„‟«»＂]|(^|\s)-|\sor\s' then app.search_query(asked)
        else replace(app.search_query(asked)::text, ' & ', ' | ')::tsquery end;

-- Everything is indexed anew.
alter table messages alter column words set expression as (app.search_words(content));
alter table message_attachments alter column words set expression as (app.search_words(text));
alter table utterances alter column words set expression as (app.search_words(text));

-- As 0014 has it, with the words of the question folded like those of what is searched.
create or replace function app.rank_words(
    asked text, kinds text[], conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (kind text, id uuid, score double precision) language sql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select 'message' as kind, s.id, s.words
            from app.messages_asked(conversation, sender, from_time, to_time, attached) s
            where s.words @@ app.any_word(asked) and 'message' = any (kinds)
            union all
            select 'attachment', a.id, a.words
            from app.attachments_asked(conversation, sender, from_time, to_time, attached) a
            where a.words @@ app.any_word(asked) and 'attachment' = any (kinds)
            union all
            select 'utterance', u.id, u.words
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.words @@ app.any_word(asked) and 'utterance' = any (kinds)),
        whole as (select count(*) as size, avg(length(words)) as words from found),
        places as (
            select f.kind, f.id, w.lexeme, cardinality(w.positions) as times, length(f.words) / whole.words as length
            from found f, whole, unnest(f.words) w
            where w.lexeme = any (tsvector_to_array(app.search_words(asked)))),
        rarity as (
            select lexeme, ln(1 + (whole.size - count(*) + 0.5) / (count(*) + 0.5)) as value
            from places, whole group by lexeme, whole.size)
        select p.kind, p.id, sum(r.value * p.times * 2.2 / (p.times + 1.2 * (0.25 + 0.75 * p.length)))::double precision
        from places p join rarity r using (lexeme) group by p.kind, p.id order by 3 desc, 2 desc limit most;
    end;
