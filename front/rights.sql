-- Comes last: gives every function its owner and its rights, and drops those of an older release,
-- which this transaction has not written.
do $rights$
declare
    v_function record;
begin
    for v_function in
        select
            p.oid::regprocedure                      as signature,
            p.pronamespace = 'ai_storage'::regnamespace as is_public,
            p.xmin <> pg_current_xact_id()::xid      as is_old
        from pg_proc as p
        where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_front'::regnamespace)
    loop
        if v_function.is_old then
            execute format('drop function %s', v_function.signature);
        else
            execute format('alter function %s owner to ai_storage_front', v_function.signature);
            execute format('revoke all on function %s from public', v_function.signature);
            if v_function.is_public then
                execute format(
                    'grant execute on function %s to ai_storage_app', v_function.signature
                );
            end if;
        end if;
    end loop;
end;
$rights$;
