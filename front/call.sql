create or replace function ai_storage_front.{name}({inner_arguments})
returns {result}
language plproxy
volatile
as $front$
    connect p_address;
    select {columns};
$front$;
create or replace function ai_storage.{name}({arguments})
returns {result}
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
set datestyle = 'ISO, MDY'
set intervalstyle = postgres
set extra_float_digits = 1
as $front$
declare
    v_address text := ai_storage_front.route({credential});
    v_error   ai_storage_front.error;
    v_first   ai_storage_front.error;
begin
    {check}
    loop
        begin
            {call}
        exception
            when query_canceled or others then
                get stacked diagnostics
                    v_error.state = returned_sqlstate,
                    v_error.message = message_text,
                    v_error.detail = pg_exception_detail,
                    v_error.hint = pg_exception_hint;
                v_address := ai_storage_front.pass_on(v_error, v_first);
                v_first := v_error;
        end;
    end loop;
end;
$front$;
comment on function ai_storage.{name} is {comment};
