-- Gives a setting the value back that it had; SET is the quickest way.
SET :{scope} :"name" = :'value'
